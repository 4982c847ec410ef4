#include "launcher/token_sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "runtime/base/philox.h"

namespace entrain {

int32_t SampleToken(std::span<const float> logits, const SamplingOptions& options, int64_t index) {
  if (options.temperature <= 0.0) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  auto more_likely = [&](int32_t a, int32_t b) {
    const float la = logits[static_cast<size_t>(a)];
    const float lb = logits[static_cast<size_t>(b)];
    return la != lb ? la > lb : a < b;
  };
  const auto size = static_cast<int64_t>(ids.size());
  const int64_t kept = options.top_k > 0 ? std::min(options.top_k, size) : size;
  std::partial_sort(ids.begin(), ids.begin() + std::min<int64_t>(kept, size), ids.end(),
                    more_likely);
  ids.resize(static_cast<size_t>(kept));

  const double top = logits[static_cast<size_t>(ids[0])];
  std::vector<double> cumulative;
  double sum = 0.0;
  for (const int32_t id : ids) {
    sum += std::exp((logits[static_cast<size_t>(id)] - top) / options.temperature);
    cumulative.push_back(sum);
  }
  const auto words = Philox(options.seed, StreamOf("sample"), static_cast<uint64_t>(index));
  const double draw = (static_cast<double>(words[0]) + words[1] * 0x1p-32) * 0x1p-32 * sum;
  const auto it = std::upper_bound(cumulative.begin(), cumulative.end(), draw);
  return ids[static_cast<size_t>(std::min<int64_t>(it - cumulative.begin(), kept - 1))];
}

}  // namespace entrain
