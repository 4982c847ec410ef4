// BatchSampler: which sequence comes when, as a pure function of (seed, step, position in the
// global batch).
#ifndef ENTRAIN_RUNTIME_DATA_BATCH_SAMPLER_H_
#define ENTRAIN_RUNTIME_DATA_BATCH_SAMPLER_H_

#include <cstdint>

namespace entrain {

// Draw k = step · global_batch + position is element k mod n of epoch k div n, n the number of
// sequences. Each epoch is an exact permutation of [0, n) (a keyed Feistel network over the next
// power of four, cycle-walked), so every sequence is used once before any is used again; with
// shuffle = false it is file order. No state: nothing to save but the step.
class BatchSampler {
 public:
  BatchSampler(uint64_t seed, int64_t num_sequences, int64_t global_batch, bool shuffle);

  // Index of the sequence at `position` (in [0, global_batch)) of the batch of `step` (from 0).
  int64_t SequenceIndex(int64_t step, int64_t position) const;
  int64_t num_sequences() const { return num_sequences_; }

 private:
  uint64_t seed_;
  int64_t num_sequences_;
  int64_t global_batch_;
  bool shuffle_;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_BATCH_SAMPLER_H_
