#include "model/init.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/philox.h"
#include "runtime/device/parallel_for.h"

namespace entrain {
namespace {

constexpr int64_t kChunk = 1 << 14;  // even: a pair of normals never straddles two chunks

void FillNormal(Context& context, float* data, int64_t size, uint64_t seed, uint64_t stream,
                float std) {
  ParallelForChunks(context, size, kChunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += 2) {
      const auto pair = NormalPair(seed, stream, static_cast<uint64_t>(i / 2));
      data[i] = std * pair[0];
      if (i + 1 < end) data[i + 1] = std * pair[1];
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
    auto* data = params.value(id).data<float>();
    const int64_t size = spec.shape[0] * (spec.shape.size() == 2 ? spec.shape[1] : 1);
    if (spec.init == InitKind::kNormal) {
      FillNormal(context, data, size, seed, StreamOf(spec.name), spec.scale);
    } else {
      std::fill_n(data, size, spec.scale);
    }
  }
  params.RefreshCompute(context);
}

}  // namespace entrain
