// Which token comes next: a draw from logits, as a pure function of (seed, how many were drawn).
#ifndef ENTRAIN_LAUNCHER_TOKEN_SAMPLER_H_
#define ENTRAIN_LAUNCHER_TOKEN_SAMPLER_H_

#include <cstdint>
#include <span>

namespace entrain {

struct SamplingOptions {
  double temperature = 1.0;  // 0: always the most likely token
  int64_t top_k = 0;         // draw among the k most likely; 0: among all
  uint64_t seed = 0;
};

// The token drawn as number `index`. Equal logits: the lower id first. Probabilities in fp64.
int32_t SampleToken(std::span<const float> logits, const SamplingOptions& options, int64_t index);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TOKEN_SAMPLER_H_
