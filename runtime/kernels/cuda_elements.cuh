// Elements of tensors in CUDA kernels: fp32 or bf16 in memory, fp32 in registers.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDA_ELEMENTS_CUH_
#define ENTRAIN_RUNTIME_KERNELS_CUDA_ELEMENTS_CUH_

#include <cstdint>
#include <type_traits>

#include "runtime/kernels/cuda_intrinsics.cuh"
#include "runtime/tensor/tensor_view.h"

namespace entrain::cuda {

// Kernels take the views' own element types, float and Bf16: a Bf16 is two bytes, the upper half of a float.
__device__ __forceinline__ float ToFloat(float value) { return value; }
__device__ __forceinline__ float ToFloat(Bf16 value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}

// Rounded to nearest even.
template <typename T>
__device__ __forceinline__ T FromFloat(float value);
template <>
__device__ __forceinline__ float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ Bf16 FromFloat<Bf16>(float value) {
  Bf16 result;
  result.bits = static_cast<uint16_t>(PackBf16(value, 0.0F));
  return result;
}

// Four elements at once, at a multiple of their size.
__device__ __forceinline__ void Load4(const float* from, float (&values)[4]) {
  const float4 v = *reinterpret_cast<const float4*>(from);
  values[0] = v.x;
  values[1] = v.y;
  values[2] = v.z;
  values[3] = v.w;
}
__device__ __forceinline__ void Load4(const Bf16* from, float (&values)[4]) {
  const uint2 v = *reinterpret_cast<const uint2*>(from);
  values[0] = __uint_as_float(v.x << 16);
  values[1] = __uint_as_float(v.x & 0xffff0000U);
  values[2] = __uint_as_float(v.y << 16);
  values[3] = __uint_as_float(v.y & 0xffff0000U);
}
__device__ __forceinline__ void Store4(float* to, const float (&values)[4]) {
  *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
}
__device__ __forceinline__ void Store4(Bf16* to, const float (&values)[4]) {
  *reinterpret_cast<uint2*>(to) =
      make_uint2(PackBf16(values[0], values[1]), PackBf16(values[2], values[3]));
}

// n elements, 4 or 1: what kernels with a form for rows that fours do not fit call.
template <int n, typename T>
__device__ __forceinline__ void LoadVector(const T* from, float (&values)[n]) {
  static_assert(n == 4 || n == 1);
  if constexpr (n == 4) {
    Load4(from, values);
  } else {
    values[0] = ToFloat(*from);
  }
}
template <int n, typename T>
__device__ __forceinline__ void StoreVector(T* to, const float (&values)[n]) {
  static_assert(n == 4 || n == 1);
  if constexpr (n == 4) {
    Store4(to, values);
  } else {
    *to = FromFloat<T>(values[0]);
  }
}

// Calls function with the constant 4 or 1: the n of the above.
template <typename F>
void DispatchVector(bool fours_fit, F&& function) {
  if (fours_fit) {
    function(std::integral_constant<int, 4>{});
  } else {
    function(std::integral_constant<int, 1>{});
  }
}

// Whether rows of a tensor may be taken four elements at a time.
inline bool FoursFit(const TensorView& view) {
  const auto address = reinterpret_cast<uintptr_t>(view.raw());
  return address % static_cast<uintptr_t>(4 * SizeOf(view.dtype())) == 0 && view.dim(-1) % 4 == 0 &&
         view.row_stride() % 4 == 0;
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_ELEMENTS_CUH_
