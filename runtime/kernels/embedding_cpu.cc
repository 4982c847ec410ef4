#include "runtime/device/parallel_for.h"
#include "runtime/kernels/embedding.h"
#include "runtime/kernels/simd.h"

namespace entrain::cpu {
namespace {

using simd::Float;

// Columns of a task of the backward pass: a thread adds the whole batch into its columns, in the order of the batch.
constexpr int64_t kBlockColumns = 128;

// A token's row of the table, −1 when it is another rank's.
int64_t RowOf(int32_t token, int64_t first_token, const TensorView& table) {
  const int64_t row = token - first_token;
  return 0 <= row && row < table.dim(0) ? row : -1;
}

// token + position; either may be null.
template <typename T>
void EmbedRow(const T* token, const T* position, float* out, int64_t width) {
  simd::ForEachVector(width, [&](int64_t i, auto lanes) {
    Float value = token != nullptr ? Float(lanes.Load(token + i)) : simd::Zero();
    if (position != nullptr) value += lanes.Load(position + i);
    lanes.Store(out + i, value);
  });
}

void AddTo(const float* from, float* to, int64_t size) {
  simd::ForEachVector(size, [&](int64_t i, auto lanes) {
    lanes.Store(to + i, lanes.Load(to + i) + lanes.Load(from + i));
  });
}

void TokenGradient(Context& context, const EmbeddingBackwardArgs& args) {
  const auto* tokens = args.tokens.data<int32_t>();
  ParallelForChunks(context, args.dwte.dim(-1), kBlockColumns, [&](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < args.tokens.size(); ++row) {
      const int64_t to = RowOf(tokens[row], args.first_token, args.dwte);
      if (to < 0) continue;
      AddTo(args.dout.row<float>(row) + begin, args.dwte.row<float>(to) + begin, end - begin);
    }
  });
}

void PositionGradient(Context& context, const EmbeddingBackwardArgs& args) {
  const int64_t batch = args.tokens.dim(0);
  const int64_t positions = args.tokens.dim(1);
  ParallelFor(context, positions, [&](int64_t position) {
    auto* to = args.dwpe.row<float>(position);
    simd::ForEachVector(args.dwpe.dim(-1), [&](int64_t i, auto lanes) {
      Float sum = simd::Zero();
      for (int64_t b = 0; b < batch; ++b) {
        sum += lanes.Load(args.dout.row<float>(b * positions + position) + i);
      }
      lanes.Store(to + i, args.accumulate ? lanes.Load(to + i) + sum : sum);
    });
  });
}

}  // namespace

void EmbeddingForward(Context& context, const EmbeddingForwardArgs& args) {
  const int64_t positions = args.tokens.dim(1);
  const auto* tokens = args.tokens.data<int32_t>();
  DispatchFloat(args.wte.dtype(), [&]<typename T>(T) {
    ParallelFor(context, args.tokens.size(), [&](int64_t row) {
      const T* position =
          args.wpe ? args.wpe.row<T>(args.first_position + row % positions) : nullptr;
      const int64_t from = RowOf(tokens[row], args.first_token, args.wte);
      EmbedRow(from < 0 ? nullptr : args.wte.row<T>(from), position, args.out.row<float>(row),
               args.out.dim(-1));
    });
  });
}

void EmbeddingBackward(Context& context, const EmbeddingBackwardArgs& args) {
  TokenGradient(context, args);
  if (args.dwpe) PositionGradient(context, args);
}

}  // namespace entrain::cpu
