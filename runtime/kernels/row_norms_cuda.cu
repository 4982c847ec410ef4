#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elements.cuh"
#include "runtime/kernels/matrix_products.cuh"
#include "runtime/kernels/row_norms.h"

namespace entrain::cuda {
namespace {

constexpr int kThreads = 256;

// A unit's numbers for the vector of elements from (row, column) on: one for the whole row (kInput) or one for each column
// (kOutput).
template <NormAxis axis, int n>
__device__ __forceinline__ void LoadUnits(const float* units, int64_t row, int column,
                                          float (&values)[n]) {
  if constexpr (axis == NormAxis::kOutput) {
    LoadVector(units + column, values);
  } else {
    const float value = units[row];
#pragma unroll
    for (int i = 0; i < n; ++i) values[i] = value;
  }
}

__device__ __forceinline__ float Quotient(float numerator, float norm) {
  return norm == 0.0F ? 0.0F : numerator / norm;
}

__global__ void __launch_bounds__(kThreads)
    NormsKernel(const double* squares, int64_t units, float* norms) {
  const int64_t unit = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (unit < units) norms[unit] = static_cast<float>(sqrt(squares[unit]));
}

__global__ void __launch_bounds__(kThreads)
    GainGradientKernel(const double* products, const float* norms, int64_t units, float* dg) {
  const int64_t unit = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (unit >= units) return;
  const double norm = norms[unit];
  dg[unit] = norm == 0.0 ? 0.0F : static_cast<float>(products[unit] / norm);
}

// Grid of the kernels below: rows × blocks of columns.
template <typename T, NormAxis axis, int n>
__global__ void __launch_bounds__(kThreads)
    WeightNormForwardKernel(const float* v, const float* g, const float* norms, int columns,
                            T* weight) {
  const int column = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * n;
  if (column >= columns) return;
  const int64_t row = blockIdx.x;
  const int64_t offset = row * columns + column;
  float values[n], gains[n], lengths[n];
  LoadVector(v + offset, values);
  LoadUnits<axis>(g, row, column, gains);
  LoadUnits<axis>(norms, row, column, lengths);
#pragma unroll
  for (int i = 0; i < n; ++i) values[i] *= Quotient(gains[i], lengths[i]);
  StoreVector(weight + offset, values);
}

struct Backward {
  const float* dweight;
  const float* v;
  const float* g;
  const float* norms;
  const float* dg;
  float* dv;
  int columns;
};

template <NormAxis axis, int n>
__global__ void __launch_bounds__(kThreads) WeightNormBackwardKernel(Backward args) {
  const int column = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * n;
  if (column >= args.columns) return;
  const int64_t row = blockIdx.x;
  const int64_t offset = row * args.columns + column;
  float gradient[n], v[n], gains[n], lengths[n], gain_gradients[n];
  LoadVector(args.dweight + offset, gradient);
  LoadVector(args.v + offset, v);
  LoadUnits<axis>(args.g, row, column, gains);
  LoadUnits<axis>(args.norms, row, column, lengths);
  LoadUnits<axis>(args.dg, row, column, gain_gradients);
#pragma unroll
  for (int i = 0; i < n; ++i) {
    const float rest = gradient[i] - Quotient(v[i], lengths[i]) * gain_gradients[i];
    gradient[i] = Quotient(gains[i], lengths[i]) * rest;
  }
  StoreVector(args.dv + offset, gradient);
}

// Calls function with the axis as a constant.
template <typename F>
void DispatchAxis(NormAxis axis, F&& function) {
  if (axis == NormAxis::kOutput) {
    function(std::integral_constant<NormAxis, NormAxis::kOutput>{});
  } else {
    function(std::integral_constant<NormAxis, NormAxis::kInput>{});
  }
}

}  // namespace

void UnitProducts(Context& context, const TensorView& a, const TensorView& b, NormAxis axis,
                  const TensorView& products) {
  if (axis == NormAxis::kInput) {
    RowProducts(context, a, Factors::OfMatrix(b), products);
  } else {
    ColumnProducts(context, a, Factors::OfMatrix(b), products);
  }
}

void NormsFromSquares(Context& context, const TensorView& squares, const TensorView& norms) {
  const int64_t units = squares.size();
  if (units == 0) return;
  Launch(NormsKernel, dim3(BlocksFor(units, kThreads)), dim3(kThreads), 0, context.cuda().stream,
         squares.data<double>(), units, norms.data<float>());
}

void WeightNormForward(Context& context, const WeightNormForwardArgs& args) {
  if (args.v.size() == 0) return;
  const bool fours_fit =
      FoursFit(args.v) && FoursFit(args.weight) &&
      (args.axis == NormAxis::kInput || (FoursFit(args.g) && FoursFit(args.norms)));
  DispatchFloat(args.weight.dtype(), [&]<typename T>(T) {
    DispatchAxis(args.axis, [&](auto axis) {
      DispatchVector(fours_fit, [&](auto n) {
        const dim3 grid(static_cast<unsigned>(args.v.dim(0)),
                        BlocksFor(args.v.dim(1), kThreads * n()));
        Launch(WeightNormForwardKernel<T, axis(), n()>, grid, dim3(kThreads), 0,
               context.cuda().stream, args.v.data<float>(), args.g.data<float>(),
               args.norms.data<float>(), static_cast<int>(args.v.dim(1)), args.weight.data<T>());
      });
    });
  });
}

void WeightNormBackward(Context& context, const WeightNormBackwardArgs& args) {
  cudaStream_t stream = context.cuda().stream;
  const int64_t units = args.products.size();
  if (units > 0) {
    Launch(GainGradientKernel, dim3(BlocksFor(units, kThreads)), dim3(kThreads), 0, stream,
           args.products.data<double>(), args.norms.data<float>(), units, args.dg.data<float>());
  }
  if (args.v.size() == 0) return;
  const Backward backward{.dweight = args.dweight.data<float>(),
                          .v = args.v.data<float>(),
                          .g = args.g.data<float>(),
                          .norms = args.norms.data<float>(),
                          .dg = args.dg.data<float>(),
                          .dv = args.dv.data<float>(),
                          .columns = static_cast<int>(args.v.dim(1))};
  const bool fours_fit = FoursFit(args.v) && FoursFit(args.dweight) && FoursFit(args.dv) &&
                         (args.axis == NormAxis::kInput ||
                          (FoursFit(args.g) && FoursFit(args.norms) && FoursFit(args.dg)));
  DispatchAxis(args.axis, [&](auto axis) {
    DispatchVector(fours_fit, [&](auto n) {
      const dim3 grid(static_cast<unsigned>(args.v.dim(0)),
                      BlocksFor(args.v.dim(1), kThreads * n()));
      Launch(WeightNormBackwardKernel<axis(), n()>, grid, dim3(kThreads), 0, stream, backward);
    });
  });
}

}  // namespace entrain::cuda
