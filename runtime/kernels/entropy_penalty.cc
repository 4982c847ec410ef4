#include "runtime/kernels/entropy_penalty.h"

#include "runtime/base/check.h"
#include "runtime/device/dispatch.h"

namespace entrain {
ENTRAIN_BACKENDS(void RowPenalty(Context& context, const RowPenaltyArgs& args, HeadPenalty* sums))

void RowPenalty(Context& context, const RowPenaltyArgs& args, HeadPenalty* sums) {
  CHECK_EQ(args.entropy.num_dims(), 3);
  CHECK_EQ(args.threshold.size(), args.entropy.dim(1));
  CHECK(!args.gradient || args.gradient.size() == args.entropy.size());
  ENTRAIN_DISPATCH(RowPenalty, context, args, sums);
}

}  // namespace entrain
