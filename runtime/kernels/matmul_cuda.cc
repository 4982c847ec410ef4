#include <algorithm>
#include <cstdint>

#include "runtime/device/buffer.h"
#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cast.h"
#include "runtime/kernels/matmul.h"
#include "runtime/kernels/matmul_plans_cuda.h"

namespace entrain::cuda {
namespace {

constexpr uintptr_t kVectorAlignment = 16;

bool Aligned(const TensorView& view) {
  return reinterpret_cast<uintptr_t>(view.raw()) % kVectorAlignment == 0;
}

struct BiasScratch {
  Buffer buffer;
};

// The bias as cuBLASLt takes it: of out's dtype, at a multiple of 16. Products of one stream run one after another, so all may
// use one copy.
const void* BiasFor(Context& context, const MatmulArgs& args) {
  if (!args.bias) return nullptr;
  if (args.out.dtype() == DType::kF32 && Aligned(args.bias)) return args.bias.raw();
  Buffer& buffer = context.Cache<BiasScratch>().buffer;
  const int64_t bytes = args.bias.size() * SizeOf(args.out.dtype());
  if (bytes > buffer.bytes()) buffer = Buffer(DeviceKind::kCuda, bytes);
  Cast(context, args.bias, {buffer.data(), args.out.dtype(), {args.bias.size()}});
  return buffer.data();
}

}  // namespace

// Where cuBLASLt's fused kernels are no slower than two: in bf16, from Hopper on.
bool FusesEpilogue(Context& context, const MatmulArgs& args) {
  constexpr int kHopper = 90;
  if (args.out.dtype() != DType::kBf16 || context.cuda().capability < kHopper) return false;
  if (args.out.size() == 0) return false;
  constexpr int64_t kAuxMultiple = 8;  // of a row of aux, cuBLASLt's condition
  if (!Aligned(args.aux) || args.aux.dim(1) % kAuxMultiple != 0) return false;
  return !MatmulPlans::Of(context).Find(ProblemOf(args)).algorithms.empty();
}

void Matmul(Context& context, const MatmulArgs& args) {
  if (args.out.size() == 0) return;
  const MatmulProblem problem = ProblemOf(args);
  CHECK_GT(problem.k, 0) << "matmul without terms: " << Describe(problem);
  MatmulPlans::Of(context).Run(context, problem,
                               {.a = args.a.raw(),
                                .b = args.b.raw(),
                                .out = args.out.raw(),
                                .addend = args.addend.raw(),
                                .bias = BiasFor(context, args),
                                .aux = args.aux.raw()});
}

void AllowTf32(Context& context) { MatmulPlans::Of(context).AllowTf32(); }

}  // namespace entrain::cuda
