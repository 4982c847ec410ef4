// Element-wise reductions in rank order: the arithmetic of the host collectives.
#ifndef ENTRAIN_PARALLEL_COMM_ORDERED_REDUCE_H_
#define ENTRAIN_PARALLEL_COMM_ORDERED_REDUCE_H_

#include <vector>

#include "parallel/comm/communicator.h"

namespace entrain {

// out[i] = sources[0][i] ∘ sources[1][i] ∘ … from left to right, for `count` elements of `dtype`; out may be one of the
// sources. bf16 is reduced in fp32 and rounded once.
void OrderedReduce(ReduceOp op, DType dtype, const std::vector<const void*>& sources, void* out,
                   int64_t count);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_ORDERED_REDUCE_H_
