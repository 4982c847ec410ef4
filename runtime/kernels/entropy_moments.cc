#include "runtime/kernels/entropy_moments.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void EntropyMoments(Context& context, const TensorView& entropy,
                                     const HeadMoments& moments))
ENTRAIN_BACKENDS(void JoinMoments(Context& context, const HeadMoments& added,
                                  const HeadMoments& total))
ENTRAIN_BACKENDS(void KeepMeans(Context& context, const KeepMeansArgs& args))

namespace {

void CheckMoments(const HeadMoments& moments, int64_t layers, int64_t heads) {
  CheckF64("entropy sums", moments.sums, layers * heads * 2);
  CheckF32("entropy extremes", moments.extremes, {layers, heads, 2});
}

}  // namespace

void EntropyMoments(Context& context, const TensorView& entropy, const HeadMoments& moments) {
  CHECK_EQ(entropy.num_dims(), 4) << "entropy moments: " << Describe(entropy);
  CheckF32("entropy", entropy, {entropy.dim(0), entropy.dim(1), entropy.dim(2), entropy.dim(3)});
  CHECK_GT(entropy.dim(1) * entropy.dim(3), 0) << "entropy moments: no rows";
  CheckMoments(moments, entropy.dim(0), entropy.dim(2));
  ENTRAIN_DISPATCH(EntropyMoments, context, entropy, moments);
}

void JoinMoments(Context& context, const HeadMoments& added, const HeadMoments& total) {
  CheckMoments(added, added.sums.dim(0), added.sums.dim(1));
  CheckMoments(total, added.sums.dim(0), added.sums.dim(1));
  ENTRAIN_DISPATCH(JoinMoments, context, added, total);
}

void KeepMeans(Context& context, const KeepMeansArgs& args) {
  CheckF32("mean entropy", args.mean, {args.mean.dim(0), args.mean.dim(1)});
  CheckF64("entropy sums", args.sums, 2 * args.mean.size());
  CheckF32("unless_nan", args.unless_nan, {1});
  CHECK_GT(args.rows, 0);
  ENTRAIN_DISPATCH(KeepMeans, context, args);
}

}  // namespace entrain
