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
// Of two bf16, the first in the low half.
__device__ __forceinline__ void UnpackBf16(uint32_t packed, float& low, float& high) {
  low = __uint_as_float(packed << 16);
  high = __uint_as_float(packed & 0xffff0000U);
}
__device__ __forceinline__ void Load4(const Bf16* from, float (&values)[4]) {
  const uint2 v = *reinterpret_cast<const uint2*>(from);
  UnpackBf16(v.x, values[0], values[1]);
  UnpackBf16(v.y, values[2], values[3]);
}
__device__ __forceinline__ void Store4(float* to, const float (&values)[4]) {
  *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
}
__device__ __forceinline__ void Store4(Bf16* to, const float (&values)[4]) {
  *reinterpret_cast<uint2*>(to) =
      make_uint2(PackBf16(values[0], values[1]), PackBf16(values[2], values[3]));
}

// Eight at once: of bf16, 16 bytes.
__device__ __forceinline__ void Load8(const Bf16* from, float (&values)[8]) {
  const uint4 v = *reinterpret_cast<const uint4*>(from);
  UnpackBf16(v.x, values[0], values[1]);
  UnpackBf16(v.y, values[2], values[3]);
  UnpackBf16(v.z, values[4], values[5]);
  UnpackBf16(v.w, values[6], values[7]);
}
__device__ __forceinline__ void Store8(Bf16* to, const float (&values)[8]) {
  *reinterpret_cast<uint4*>(to) =
      make_uint4(PackBf16(values[0], values[1]), PackBf16(values[2], values[3]),
                 PackBf16(values[4], values[5]), PackBf16(values[6], values[7]));
}
__device__ __forceinline__ void Store8(float* to, const float (&values)[8]) {
  Store4(to, {values[0], values[1], values[2], values[3]});
  Store4(to + 4, {values[4], values[5], values[6], values[7]});
}

// How many elements are 16 bytes.
template <typename T>
inline constexpr int kWideVector = 16 / static_cast<int>(sizeof(T));

// n elements, 4 or 1: what kernels with a form for rows that fours do not fit call. Or 8: loads of bf16, and stores.
template <int n, typename T>
__device__ __forceinline__ void LoadVector(const T* from, float (&values)[n]) {
  static_assert(n == 8 || n == 4 || n == 1);
  if constexpr (n == 8) {
    Load8(from, values);
  } else if constexpr (n == 4) {
    Load4(from, values);
  } else {
    values[0] = ToFloat(*from);
  }
}
template <int n, typename T>
__device__ __forceinline__ void StoreVector(T* to, const float (&values)[n]) {
  static_assert(n == 8 || n == 4 || n == 1);
  if constexpr (n == 8) {
    Store8(to, values);
  } else if constexpr (n == 4) {
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

// Whether rows of a tensor may be taken n elements at a time.
inline bool VectorsFit(const TensorView& view, int64_t n) {
  const auto address = reinterpret_cast<uintptr_t>(view.raw());
  return address % static_cast<uintptr_t>(n * SizeOf(view.dtype())) == 0 && view.dim(-1) % n == 0 &&
         view.row_stride() % n == 0;
}
inline bool FoursFit(const TensorView& view) { return VectorsFit(view, 4); }

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_ELEMENTS_CUH_
