#include "runtime/kernels/adamw.h"

#include <cmath>

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void AdamW(Context& context, const AdamWArgs& args))

std::array<float, 3> AdamWRate(double lr, double weight_decay, double beta1, double beta2,
                               int64_t step) {
  CHECK_GE(step, 1) << "adamw: the first step is 1";
  const auto exponent = static_cast<double>(step);
  return {static_cast<float>(lr / (1.0 - std::pow(beta1, exponent))),
          static_cast<float>(1.0 / (1.0 - std::pow(beta2, exponent))),
          static_cast<float>(1.0 - lr * weight_decay)};
}

void AdamW(Context& context, const AdamWArgs& args) {
  for (const AdamWParameter& parameter : args.parameters) {
    const int64_t size = parameter.value.size();
    CheckF32("adamw value", parameter.value, {size});
    CheckF32("adamw gradient", parameter.gradient, {size});
    CheckF32("adamw first_moment", parameter.first_moment, {size});
    CheckF32("adamw second_moment", parameter.second_moment, {size});
    if (!parameter.compute) continue;
    CheckDType("adamw compute", parameter.compute, DType::kBf16);
    CheckFloat("adamw compute", parameter.compute, {size});
  }
  CheckF32("adamw rate", args.rate, {3});
  CheckF32("adamw gradient_scale", args.gradient_scale, {1});
  ENTRAIN_DISPATCH(AdamW, context, args);
}

}  // namespace entrain
