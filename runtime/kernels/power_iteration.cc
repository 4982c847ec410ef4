#include "runtime/kernels/power_iteration.h"

#include "runtime/kernels/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
namespace cpu {
double PowerIteration(Context& context, const PowerIterationArgs& args);
void SpectralScale(Context& context, const TensorView& raw, double sigma, const TensorView& weight);
void SpectralBackward(Context& context, const SpectralBackwardArgs& args);
}  // namespace cpu
namespace {

void CheckRaw(const TensorView& raw) {
  CheckF32("spectral norm raw", raw, {raw.dim(0), raw.dim(1)});
}

void CheckSigma(double sigma) { CHECK(!(sigma <= 0.0)) << "spectral norm: sigma " << sigma; }

}  // namespace

double PowerIteration(Context& context, const PowerIterationArgs& args) {
  CheckRaw(args.raw);
  CheckF32("power iteration u", args.u, {args.raw.dim(1)});
  CheckF32("power iteration v", args.v, {args.raw.dim(0)});
  CheckF32("power iteration next_u", args.next_u, {args.raw.dim(1)});
  ENTRAIN_DISPATCH(PowerIteration, context, args);
  return 0.0;
}

void SpectralScale(Context& context, const TensorView& raw, double sigma,
                   const TensorView& weight) {
  CheckRaw(raw);
  CheckFloat("spectral norm weight", weight, {raw.dim(0), raw.dim(1)});
  CheckSigma(sigma);
  ENTRAIN_DISPATCH(SpectralScale, context, raw, sigma, weight);
}

void SpectralBackward(Context& context, const SpectralBackwardArgs& args) {
  const int64_t in = args.raw.dim(0), out = args.raw.dim(1);
  CheckRaw(args.raw);
  CheckF32("spectral norm dweight", args.dweight, {in, out});
  CheckF32("spectral norm u", args.u, {out});
  CheckF32("spectral norm v", args.v, {in});
  CheckF32("spectral norm draw", args.draw, {in, out});
  CheckSigma(args.sigma);
  ENTRAIN_DISPATCH(SpectralBackward, context, args);
}

}  // namespace entrain
