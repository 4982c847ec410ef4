#include "runtime/device/parallel_for.h"
#include "runtime/kernels/cast.h"
#include "runtime/kernels/simd.h"

namespace entrain::cpu {
namespace {

constexpr int64_t kChunk = 16384;

template <typename In, typename Out>
void CastRow(const In* in, Out* out, int64_t size) {
  simd::ForEachVector(size,
                      [&](int64_t i, auto lanes) { lanes.Store(out + i, lanes.Load(in + i)); });
}

template <typename In, typename Out>
void CastRows(Context& context, const TensorView& in, const TensorView& out) {
  if (in.dense() && out.dense()) {
    const In* from = in.data<In>();
    Out* to = out.data<Out>();
    ParallelForChunks(context, in.size(), kChunk, [&](int64_t begin, int64_t end) {
      CastRow(from + begin, to + begin, end - begin);
    });
    return;
  }
  ParallelFor(context, in.rows(),
              [&](int64_t row) { CastRow(in.row<In>(row), out.row<Out>(row), in.dim(-1)); });
}

}  // namespace

void Cast(Context& context, const TensorView& in, const TensorView& out) {
  DispatchFloat(in.dtype(), [&]<typename In>(In) {
    DispatchFloat(out.dtype(), [&]<typename Out>(Out) { CastRows<In, Out>(context, in, out); });
  });
}

}  // namespace entrain::cpu
