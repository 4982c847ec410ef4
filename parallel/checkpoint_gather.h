// What the ranks of one save must tell each other: collective exchanges of a checkpoint's lists.
#ifndef ENTRAIN_PARALLEL_CHECKPOINT_GATHER_H_
#define ENTRAIN_PARALLEL_CHECKPOINT_GATHER_H_

#include <optional>
#include <vector>

#include "parallel/checkpoint.h"
#include "parallel/comm/communicator.h"
#include "parallel/tensor_index.h"
#include "runtime/io/manifest.h"

namespace entrain {

// Collective, before anything is written. Rank 0 gets the index of all ranks' tensors (in its own order, then those of
// rank 1 that it does not hold, …), the others get nothing. The same status on every rank; Internal, for it is a
// programmer's error, when ranks save different steps, tell a tensor differently, or do not hold all of it exactly once.
absl::StatusOr<TensorIndex> GatherTensorIndex(Communicator& world,
                                              const CheckpointContents& contents);

// Collective. Every rank gets the shards that were written, by rank; nullopt: this rank wrote none.
std::vector<ManifestFile> GatherShards(Communicator& world,
                                       const std::optional<ManifestFile>& mine);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_CHECKPOINT_GATHER_H_
