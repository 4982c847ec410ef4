#include <algorithm>

#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elements.cuh"
#include "runtime/kernels/cuda_elementwise.cuh"
#include "runtime/kernels/cuda_partials.cuh"
#include "runtime/kernels/cuda_scratch.h"
#include "runtime/kernels/matrix_products.cuh"
#include "runtime/kernels/power_iteration.h"

namespace entrain::cuda {
namespace {

constexpr int kThreads = 256;
// Elements of a chunk of an inner product: part of its definition.
constexpr int kChunk = 16384;

// A block takes a chunk.
template <int n>
__global__ void __launch_bounds__(kThreads)
    InnerProductKernel(const float* a, const float* b, int64_t size, double* partials) {
  __shared__ double scratch[kMaxWarps];
  const int64_t first = int64_t{blockIdx.x} * kChunk;
  const int64_t end = MinOf()(size, first + kChunk);
  const double sum = BlockProduct<n, kThreads>(a, b, first, end, scratch);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// One block: a vector has some thousand elements.
__global__ void __launch_bounds__(kThreads)
    SquaredNormKernel(const double* x, int64_t size, double* square) {
  __shared__ double scratch[kMaxWarps];
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < size; i += kThreads) sum += x[i] * x[i];
  sum = BlockReduce(sum, scratch, SumOf());
  if (threadIdx.x == 0) *square = sum;
}

__global__ void __launch_bounds__(kThreads)
    NormalizeKernel(const double* x, const double* square, int64_t size, const float* if_zero,
                    float* out, double* norm_out) {
  const double norm = sqrt(*square);
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i == 0) *norm_out = norm > kMinSigma ? norm : kMinSigma;
  if (i >= size) return;
  if (norm != 0.0) {
    out[i] = static_cast<float>(x[i] / norm);
  } else {
    out[i] = if_zero != nullptr ? if_zero[i] : 0.0F;
  }
}

// weight = raw/σ.
template <typename T>
struct Scale {
  static constexpr int kInputs = 1;
  const float* raw;
  T* weight;
  const double* sigma;

  template <int n>
  __device__ __forceinline__ void Load(int64_t i, float (&in)[kInputs][n]) const {
    LoadVector(raw + i, in[0]);
  }
  template <int n>
  __device__ __forceinline__ void Store(int64_t i, const float (&in)[kInputs][n]) const {
    const auto factor = static_cast<float>(1.0 / *sigma);
    float values[n];
#pragma unroll
    for (int k = 0; k < n; ++k) values[k] = factor * in[0][k];
    StoreVector(weight + i, values);
  }
};

struct Backward {
  const float* dweight;
  const float* u;
  const float* v;
  float* draw;
  int columns;
  const double* sigma;
  const double* product;
};

// Grid: rows × blocks of columns.
template <int n>
__global__ void __launch_bounds__(kThreads) SpectralBackwardKernel(Backward args) {
  const int column = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * n;
  if (column >= args.columns) return;
  const int64_t offset = int64_t{blockIdx.x} * args.columns + column;
  const double sigma = *args.sigma;
  const auto inverse = static_cast<float>(1.0 / sigma);
  const float row_factor = static_cast<float>(*args.product / (sigma * sigma)) * args.v[blockIdx.x];
  float gradient[n], u[n];
  LoadVector(args.dweight + offset, gradient);
  LoadVector(args.u + column, u);
#pragma unroll
  for (int i = 0; i < n; ++i) gradient[i] = inverse * gradient[i] - row_factor * u[i];
  StoreVector(args.draw + offset, gradient);
}

struct Scratch {
  CudaScratch partials;
};

}  // namespace

void MatrixVector(Context& context, const TensorView& raw, const TensorView& x,
                  const TensorView& out) {
  RowProducts(context, raw, Factors::SameInEachRow(x), out);
}

void TransposedMatrixVector(Context& context, const TensorView& raw, const TensorView& x,
                            const TensorView& out) {
  ColumnProducts(context, raw, Factors::SameInEachColumn(x), out);
}

void SquaredNorm(Context& context, const TensorView& x, const TensorView& square) {
  Launch(SquaredNormKernel, 1, kThreads, 0, context.cuda().stream, x.data<double>(), x.size(),
         square.data<double>());
}

void Normalize(Context& context, const NormalizeArgs& args) {
  const int64_t size = args.x.size();
  Launch(NormalizeKernel, std::max(1U, BlocksFor(size, kThreads)), kThreads, 0,
         context.cuda().stream, args.x.data<double>(), args.square.data<double>(), size,
         args.if_zero ? args.if_zero.data<float>() : nullptr, args.out.data<float>(),
         args.norm.data<double>());
}

void InnerProduct(Context& context, const TensorView& a, const TensorView& b,
                  const TensorView& product) {
  const unsigned chunks = BlocksFor(a.size(), kChunk);
  cudaStream_t stream = context.cuda().stream;
  auto* partials = context.Cache<Scratch>().partials.Take<double>(std::max(1U, chunks));
  if (chunks > 0) {
    DispatchVector(FoursFit(a) && FoursFit(b), [&](auto n) {
      Launch(InnerProductKernel<n()>, chunks, kThreads, 0, stream, a.data<float>(), b.data<float>(),
             a.size(), partials);
    });
  }
  SumPartials(context, partials, chunks, product.data<double>());
}

void SpectralScale(Context& context, const TensorView& raw, const TensorView& sigma,
                   const TensorView& weight) {
  DispatchFloat(weight.dtype(), [&]<typename T>(T) {
    ForEachElement(
        context, raw.size(), BeginAtFours(raw, weight),
        Scale<T>{
            .raw = raw.data<float>(), .weight = weight.data<T>(), .sigma = sigma.data<double>()});
  });
}

void SpectralBackward(Context& context, const SpectralBackwardArgs& args) {
  if (args.dweight.size() == 0) return;
  const Backward backward{.dweight = args.dweight.data<float>(),
                          .u = args.u.data<float>(),
                          .v = args.v.data<float>(),
                          .draw = args.draw.data<float>(),
                          .columns = static_cast<int>(args.dweight.dim(1)),
                          .sigma = args.sigma.data<double>(),
                          .product = args.product.data<double>()};
  const bool fours_fit = FoursFit(args.dweight) && FoursFit(args.u) && FoursFit(args.draw);
  DispatchVector(fours_fit, [&](auto n) {
    const dim3 grid(static_cast<unsigned>(args.dweight.dim(0)),
                    BlocksFor(backward.columns, kThreads * n()));
    Launch(SpectralBackwardKernel<n()>, grid, dim3(kThreads), 0, context.cuda().stream, backward);
  });
}

}  // namespace entrain::cuda
