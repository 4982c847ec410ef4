// Collectives on a context's device memory over a host communicator: what is exchanged is copied to pinned host memory,
// exchanged there and copied back. Ranks on one GPU, which NCCL refuses, and builds without NCCL communicate so; the bits are
// those of the host's collectives.
//
// Start begins the copy to the host beside the ops issued later; the exchange begins when it has arrived, at a Poll or a Wait,
// always in the order of Start, which is the same on all ranks. Wait returns when the copy back is issued, among the ops.
#ifndef ENTRAIN_PARALLEL_COMM_COMMUNICATOR_STAGED_H_
#define ENTRAIN_PARALLEL_COMM_COMMUNICATOR_STAGED_H_

#include <memory>

#include "parallel/comm/communicator.h"
#include "runtime/device/context.h"

namespace entrain {

// Over the ranks of `host`, of which it is a part of its own; collective over them. Both must outlive it. Pinned memory, as much as
// the operations that are under way at a time have, is kept for the next ones.
std::unique_ptr<Communicator> MakeStagedCommunicator(Context& context, Communicator& host);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_COMMUNICATOR_STAGED_H_
