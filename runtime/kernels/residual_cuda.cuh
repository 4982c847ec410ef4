// The residual sum β·y + f/α in CUDA kernels.
#ifndef ENTRAIN_RUNTIME_KERNELS_RESIDUAL_CUDA_CUH_
#define ENTRAIN_RUNTIME_KERNELS_RESIDUAL_CUDA_CUH_

#include "runtime/kernels/cuda_elementwise.cuh"

namespace entrain::cuda {

// α and β, or null for 1.
struct ResidualScalars {
  const float* alpha = nullptr;
  const float* beta = nullptr;

  ResidualScalars(const TensorView& alpha_view, const TensorView& beta_view) {
    if (!alpha_view) return;
    alpha = alpha_view.data<float>();
    beta = beta_view.data<float>();
  }
  __device__ __forceinline__ float Alpha() const { return alpha == nullptr ? 1.0F : *alpha; }
  __device__ __forceinline__ float Beta() const { return beta == nullptr ? 1.0F : *beta; }
};

// An op of ForEachElement.
template <typename T>
struct ResidualSum {
  static constexpr int kInputs = 2;
  const float* y;
  const T* f;
  ResidualScalars scalars;
  float* out;
  float beta = 1.0F;
  float inverse_alpha = 1.0F;

  // Before the rest: a division takes registers.
  __device__ __forceinline__ void Prepare() {
    beta = scalars.Beta();
    inverse_alpha = 1.0F / scalars.Alpha();
  }

  template <int n>
  __device__ __forceinline__ void Load(int64_t i, float (&values)[2][n]) const {
    LoadVector(y + i, values[0]);
    LoadVector(f + i, values[1]);
  }
  // The multiply-add is spelt out: every kernel that makes this sum makes the same bits.
  template <int n>
  __device__ __forceinline__ void Add(const float (&values)[2][n], float (&sum)[n]) const {
#pragma unroll
    for (int j = 0; j < n; ++j) sum[j] = fmaf(beta, values[0][j], inverse_alpha * values[1][j]);
  }
  template <int n>
  __device__ __forceinline__ void Store(int64_t i, const float (&values)[2][n]) const {
    float result[n];
    Add(values, result);
    StoreVector(out + i, result);
  }
};

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_RESIDUAL_CUDA_CUH_
