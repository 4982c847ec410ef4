#include "model/init.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/philox.h"
#include "runtime/device/parallel_for.h"

namespace entrain {
namespace {

constexpr int64_t kChunk = 1 << 14;

// Elements [begin, begin + size) of the whole tensor.
void FillNormal(Context& context, float* data, int64_t begin, int64_t size, uint64_t seed,
                uint64_t stream, float std) {
  ParallelForChunks(context, size, kChunk, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to;) {
      const int64_t element = begin + i;
      const auto pair = NormalPair(seed, stream, static_cast<uint64_t>(element / 2));
      const bool second = element % 2 == 1;
      data[i++] = std * pair[second ? 1 : 0];
      if (!second && i < to) data[i++] = std * pair[1];
    }
  });
}

}  // namespace

float ResidualStd(const ModelConfig& config) {
  if (!config.residual_init_scale) return kInitStd;
  return kInitStd / std::sqrt(2.0F * static_cast<float>(config.layers));
}

void InitializeParameters(Context& context, ParamSet& params, uint64_t seed) {
  for (int i = 0; i < params.size(); ++i) {
    const ParamId id{i};
    const ParameterSpec& spec = params.spec(id);
    std::vector<float> values(static_cast<size_t>(spec.shard.elements()));
    if (spec.init == InitKind::kNormal) {
      const uint64_t stream = StreamOf(spec.name);
      spec.shard.ForEachRun([&](int64_t local, int64_t whole, int64_t count) {
        FillNormal(context, values.data() + local, whole, count, seed, stream, spec.scale);
      });
    } else {
      std::fill(values.begin(), values.end(), spec.scale);
    }
    params.SetValue(context, id, values.data());
  }
  params.RefreshCompute(context);
}

}  // namespace entrain
