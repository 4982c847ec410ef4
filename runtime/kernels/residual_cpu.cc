#include <vector>

#include "runtime/device/parallel_for.h"
#include "runtime/kernels/residual.h"
#include "runtime/kernels/simd.h"

namespace entrain::cpu {
namespace {

using simd::Float;

// Elements of a chunk: part of the definition of the sums.
constexpr int64_t kChunk = 8192;

float ScalarOf(const TensorView& scalar) { return scalar ? *scalar.data<float>() : 1.0F; }

// Σ dout·f and Σ dout·y.
struct Sums {
  double with_f = 0.0;
  double with_y = 0.0;
};

template <typename T>
Sums ChunkSums(const float* dout, const float* y, const T* f, int64_t size) {
  simd::Double with_f;
  simd::Double with_y;
  simd::ForEachVector(size, [&](int64_t i, auto lanes) {
    const simd::Double gradient = simd::ToDouble(lanes.Load(dout + i));
    with_f += gradient * simd::ToDouble(lanes.Load(f + i));
    with_y += gradient * simd::ToDouble(lanes.Load(y + i));
  });
  return {simd::HorizontalSum(with_f), simd::HorizontalSum(with_y)};
}

void SetOrAdd(const TensorView& scalar, double value, bool accumulate) {
  auto* to = scalar.data<float>();
  *to = static_cast<float>(accumulate ? *to + value : value);
}

// dalpha and dbeta; before dy, which may lie over dout. T: dtype of f.
template <typename T>
void ScalarGradients(Context& context, const ResidualBackwardArgs& args) {
  const int64_t size = args.dout.size();
  const auto* dout = args.dout.data<float>();
  const auto* y = args.y.data<float>();
  const T* f = args.f.data<T>();
  std::vector<Sums> partial(static_cast<size_t>((size + kChunk - 1) / kChunk));
  ParallelForChunks(context, size, kChunk, [&](int64_t begin, int64_t end) {
    partial[static_cast<size_t>(begin / kChunk)] =
        ChunkSums(dout + begin, y + begin, f + begin, end - begin);
  });
  Sums sums;
  for (const Sums& chunk : partial) {
    sums.with_f += chunk.with_f;
    sums.with_y += chunk.with_y;
  }
  const double alpha = ScalarOf(args.alpha);
  SetOrAdd(args.dalpha, -sums.with_f / (alpha * alpha), args.accumulate);
  SetOrAdd(args.dbeta, sums.with_y, args.accumulate);
}

}  // namespace

void ResidualForward(Context& context, const ResidualForwardArgs& args) {
  const float beta = ScalarOf(args.beta);
  const float inverse_alpha = 1.0F / ScalarOf(args.alpha);
  const auto* y = args.y.data<float>();
  auto* out = args.out.data<float>();
  DispatchFloat(args.f.dtype(), [&]<typename T>(T) {
    const T* f = args.f.data<T>();
    ParallelForChunks(context, args.y.size(), kChunk, [&](int64_t begin, int64_t end) {
      simd::ForEachVector(end - begin, [&](int64_t offset, auto lanes) {
        const int64_t i = begin + offset;
        lanes.Store(out + i, beta * lanes.Load(y + i) + inverse_alpha * lanes.Load(f + i));
      });
    });
  });
}

void ResidualBackward(Context& context, const ResidualBackwardArgs& args) {
  const float beta = ScalarOf(args.beta);
  const float inverse_alpha = 1.0F / ScalarOf(args.alpha);
  const auto* dout = args.dout.data<float>();
  auto* dy = args.dy.data<float>();
  const bool write_dy = args.alpha || dy != dout;
  if (args.alpha) {
    DispatchFloat(args.f.dtype(), [&]<typename T>(T) { ScalarGradients<T>(context, args); });
  }
  DispatchFloat(args.df.dtype(), [&]<typename T>(T) {
    T* df = args.df.data<T>();
    ParallelForChunks(context, args.dout.size(), kChunk, [&](int64_t begin, int64_t end) {
      simd::ForEachVector(end - begin, [&](int64_t offset, auto lanes) {
        const int64_t i = begin + offset;
        const Float gradient = lanes.Load(dout + i);
        lanes.Store(df + i, inverse_alpha * gradient);
        if (write_dy) lanes.Store(dy + i, beta * gradient);
      });
    });
  });
}

}  // namespace entrain::cpu
