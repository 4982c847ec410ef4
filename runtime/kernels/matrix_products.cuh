// Sums of products over the rows or the columns of a matrix, in fp64: what norms and power iterations are made of.
#ifndef ENTRAIN_RUNTIME_KERNELS_MATRIX_PRODUCTS_CUH_
#define ENTRAIN_RUNTIME_KERNELS_MATRIX_PRODUCTS_CUH_

#include <cstdint>

#include "runtime/device/context.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elements.cuh"
#include "runtime/tensor/tensor_view.h"

namespace entrain::cuda {

// The factor b of element (i, j) of a matrix: data[i · row_step + j · column_step]. Of a second matrix of that shape, or of
// a vector that stands for each row or for each column. column_step is 0 or 1.
struct Factors {
  const float* data;
  int64_t row_step;
  int64_t column_step;

  static Factors OfMatrix(const TensorView& b) { return {b.data<float>(), b.dim(-1), 1}; }
  static Factors SameInEachRow(const TensorView& b) { return {b.data<float>(), 0, 1}; }
  static Factors SameInEachColumn(const TensorView& b) { return {b.data<float>(), 1, 0}; }
};

// Σ x[j] · y[j] over j in [first, end), in every thread of the block, which has kThreads. n: elements of a load. scratch as
// BlockReduce.
template <int n, int kThreads, typename Index>
__device__ __forceinline__ double BlockProduct(const float* x, const float* y, Index first,
                                               Index end, double* scratch) {
  double sums[n] = {};
#pragma unroll 4
  for (Index j = first + static_cast<Index>(threadIdx.x * n); j < end; j += kThreads * n) {
    float u[n], v[n];
    LoadVector(x + j, u);
    LoadVector(y + j, v);
#pragma unroll
    for (int i = 0; i < n; ++i) sums[i] += double{u[i]} * double{v[i]};
  }
  double sum = sums[0];
#pragma unroll
  for (int i = 1; i < n; ++i) sum += sums[i];
  return BlockReduce(sum, scratch, SumOf());
}

// out[i] = Σ_j a[i, j] · b(i, j); a f32 [rows, columns], dense; out f64 [rows]. column_step is 1.
void RowProducts(Context& context, const TensorView& a, const Factors& b, const TensorView& out);
// out[j] = Σ_i a[i, j] · b(i, j); out f64 [columns]. Over chunks of rows, whose sums are added in order.
void ColumnProducts(Context& context, const TensorView& a, const Factors& b, const TensorView& out);

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_MATRIX_PRODUCTS_CUH_
