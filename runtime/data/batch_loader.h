// BatchLoader: micro-batches read ahead by a thread of its own.
#ifndef ENTRAIN_RUNTIME_DATA_BATCH_LOADER_H_
#define ENTRAIN_RUNTIME_DATA_BATCH_LOADER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/data/batch_sampler.h"
#include "runtime/data/token_file.h"

namespace entrain {

struct Batch {
  int64_t batch_size = 0;
  int64_t sequence_length = 0;
  std::vector<int32_t> inputs;   // [batch_size, sequence_length]
  std::vector<int32_t> targets;  // the same, one token further
};

// What one of `ranks` ranks reads of every global batch, `micro_batch` sequences at a time: of
// micro-step m the positions from (m·ranks + rank)·micro_batch on. So a micro-step is the same set of
// sequences for any number of ranks with the same micro_batch · ranks.
struct BatchShare {
  int64_t global_batch = 1;  // a multiple of micro_batch · ranks
  int64_t micro_batch = 1;
  int rank = 0;
  int ranks = 1;

  int64_t micro_steps() const { return global_batch / (micro_batch * ranks); }
};

// Serves, in order, this rank's micro-batches of steps first_step, first_step + 1, ... `dataset` must
// outlive the loader.
class BatchLoader {
 public:
  BatchLoader(const TokenDataset& dataset, const BatchSampler& sampler, int64_t first_step,
              const BatchShare& share);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  // The next micro-batch; waits for the thread. A read error comes back here, at the batch that it
  // hit.
  absl::StatusOr<Batch> Next();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_BATCH_LOADER_H_
