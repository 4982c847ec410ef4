#include "runtime/kernels/adamw.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void AdamW(Context& context, const AdamWArgs& args))
ENTRAIN_BACKENDS(void ClampMin(Context& context, const TensorView& value, float minimum))

void AdamW(Context& context, const AdamWArgs& args) {
  const int64_t size = args.value.size();
  CheckF32("adamw value", args.value, {size});
  CheckF32("adamw gradient", args.gradient, {size});
  CheckF32("adamw first_moment", args.first_moment, {size});
  CheckF32("adamw second_moment", args.second_moment, {size});
  if (args.compute) {
    CheckDType("adamw compute", args.compute, DType::kBf16);
    CheckFloat("adamw compute", args.compute, {size});
  }
  CHECK_GE(args.step, 1) << "adamw: the first step is 1";
  ENTRAIN_DISPATCH(AdamW, context, args);
}

void ClampMin(Context& context, const TensorView& value, float minimum) {
  CheckDType("clamp value", value, DType::kF32);
  CheckDense("clamp value", value);
  ENTRAIN_DISPATCH(ClampMin, context, value, minimum);
}

}  // namespace entrain
