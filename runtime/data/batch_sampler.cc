#include "runtime/data/batch_sampler.h"

#include <algorithm>
#include <bit>

#include "runtime/base/check.h"
#include "runtime/base/philox.h"

namespace entrain {
namespace {

// Four rounds with good round functions make a pseudorandom permutation (Luby and Rackoff 1988);
// small domains want more.
constexpr uint64_t kRounds = 8;

// A keyed permutation of [0, n): a balanced Feistel network permutes [0, 4^k), the least such
// domain that holds n values, and is applied again and again until it lands below n ("cycle
// walking", Black and Rogaway 2002). At most four times as large as n, the domain needs four
// applications on average at most.
class Permutation {
 public:
  Permutation(uint64_t seed, uint64_t epoch, uint64_t n)
      : seed_(seed),
        first_stream_(StreamOf("batch_sampler") + epoch * kRounds),
        n_(n),
        half_bits_(std::max<uint64_t>(1, (std::bit_width(n - 1) + 1) / 2)) {}

  uint64_t At(uint64_t index) const {
    uint64_t value = index;
    do {
      value = Feistel(value);
    } while (value >= n_);
    return value;
  }

 private:
  uint64_t Feistel(uint64_t value) const {
    const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
    uint64_t left = value >> half_bits_;
    uint64_t right = value & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t mixed = left ^ (Philox(seed_, first_stream_ + round, right)[0] & mask);
      left = right;
      right = mixed;
    }
    return (left << half_bits_) | right;
  }

  uint64_t seed_;
  uint64_t first_stream_;
  uint64_t n_;
  uint64_t half_bits_;
};

}  // namespace

BatchSampler::BatchSampler(uint64_t seed, int64_t num_sequences, int64_t global_batch, bool shuffle)
    : seed_(seed), num_sequences_(num_sequences), global_batch_(global_batch), shuffle_(shuffle) {
  CHECK_GE(num_sequences, 1);
  CHECK_GE(global_batch, 1);
}

int64_t BatchSampler::SequenceIndex(int64_t step, int64_t position) const {
  CHECK(step >= 0 && position >= 0 && position < global_batch_) << step << ", " << position;
  const int64_t draw = step * global_batch_ + position;
  const int64_t epoch = draw / num_sequences_;
  const int64_t index = draw % num_sequences_;
  if (!shuffle_) return index;
  const Permutation permutation(seed_, static_cast<uint64_t>(epoch),
                                static_cast<uint64_t>(num_sequences_));
  return static_cast<int64_t>(permutation.At(static_cast<uint64_t>(index)));
}

}  // namespace entrain
