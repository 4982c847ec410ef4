#include <algorithm>

#include "runtime/kernels/cast.h"
#include "runtime/kernels/cuda_elementwise.cuh"

namespace entrain::cuda {
namespace {

template <typename In, typename Out>
struct CastElements {
  static constexpr int kInputs = 1;
  const In* in;
  Out* out;

  template <int n>
  __device__ __forceinline__ void Load(int64_t i, float (&values)[1][n]) const {
    LoadVector(in + i, values[0]);
  }
  template <int n>
  __device__ __forceinline__ void Store(int64_t i, const float (&values)[1][n]) const {
    StoreVector(out + i, values[0]);
  }
};

constexpr int kThreads = 256;
constexpr int64_t kMaxGridRows = 65535;

template <typename T>
struct Rows {
  T* data;
  int64_t stride;
};

// Block (x, y): columns of n a thread from x · kThreads · n on, of rows y, y + gridDim.y, …
template <int n, typename In, typename Out>
__global__ void __launch_bounds__(kThreads)
    CastRowsKernel(Rows<const In> in, Rows<Out> out, int64_t rows, int64_t width) {
  const int64_t column = (blockIdx.x * int64_t{kThreads} + threadIdx.x) * n;
  if (column >= width) return;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    float values[n];
    LoadVector(in.data + row * in.stride + column, values);
    StoreVector(out.data + row * out.stride + column, values);
  }
}

template <int n, typename In, typename Out>
void CastRows(Context& context, const TensorView& in, const TensorView& out) {
  const int64_t rows = in.rows(), width = in.dim(-1);
  if (rows == 0) return;
  const dim3 grid(static_cast<unsigned>((width + kThreads * n - 1) / (kThreads * n)),
                  static_cast<unsigned>(std::min(rows, kMaxGridRows)));
  Launch(CastRowsKernel<n, In, Out>, grid, kThreads, 0, context.cuda().stream,
         Rows<const In>{in.data<In>(), in.row_stride()},
         Rows<Out>{out.data<Out>(), out.row_stride()}, rows, width);
}

}  // namespace

void Cast(Context& context, const TensorView& in, const TensorView& out) {
  DispatchFloat(in.dtype(), [&]<typename In>(In) {
    DispatchFloat(out.dtype(), [&]<typename Out>(Out) {
      if (in.dense() && out.dense()) {
        ForEachElement(context, in.size(), BeginAtFours(in, out),
                       CastElements<In, Out>{in.data<In>(), out.data<Out>()});
      } else if (FoursFit(in) && FoursFit(out)) {
        CastRows<4, In, Out>(context, in, out);
      } else {
        CastRows<1, In, Out>(context, in, out);
      }
    });
  });
}

}  // namespace entrain::cuda
