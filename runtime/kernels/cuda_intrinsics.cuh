// What CUDA kernels are made of beyond C++: launches, and the instructions that have no spelling in the language. Kernels write
// no PTX and no <<< >>> of their own; what is meant stands here once.
//
// Lanes of a warp are numbered 0 .. 31. All warp-wide functions must be reached by all 32 lanes.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDA_INTRINSICS_CUH_
#define ENTRAIN_RUNTIME_KERNELS_CUDA_INTRINSICS_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "runtime/device/cuda_check.h"

namespace entrain::cuda {

// ---- launching, on the host ----

// Runs kernel(args...) for each block of the grid; shared_bytes of dynamic shared memory a block (see DynamicShared).
template <typename... Parameters, typename... Arguments>
void Launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, const Arguments&... arguments) {
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  CheckCuda(cudaGetLastError(), "the launch of a kernel");
}

// Must be called once before a kernel is launched with more than 48 KiB of dynamic shared memory.
template <typename... Parameters>
void AllowSharedBytes(void (*kernel)(Parameters...), size_t shared_bytes) {
  CHECK_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shared_bytes)));
}

// ---- memory of a block ----

// The block's dynamic shared memory, at a multiple of 128 bytes. Its contents are undefined at first.
__device__ __forceinline__ char* DynamicShared() {
  extern __shared__ __align__(128) char dynamic_shared[];
  return dynamic_shared;
}

// Begins a copy of 16 bytes from global to shared memory, both at multiples of 16; zeros instead when !valid (`global` is then
// not read, but must be an address). The bytes are there for this thread after WaitForCopies, for others after a barrier then.
__device__ __forceinline__ void CopyAsync16(void* shared, const void* global, bool valid = true) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global), "r"(bytes)
               : "memory");
}

// Ends a group: the copies begun since the last one.
__device__ __forceinline__ void CommitCopies() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

// Waits until at most `pending` of this thread's groups, the latest, are under way.
template <int pending>
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(pending) : "memory");
}

// ---- numbers ----

// 2^x, within 2 ulp; denormal results are 0.
__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Two floats as bf16, rounded to nearest even: `low` in bits 0 .. 15.
__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// ---- warps ----

// The value of lane `lane ^ mask`.
template <typename T>
__device__ __forceinline__ T ShuffleXor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffU, value, mask);
}

// The value of lane `from`.
template <typename T>
__device__ __forceinline__ T ShuffleFrom(T value, int from) {
  return __shfl_sync(0xffffffffU, value, from);
}

// ---- tensor cores ----
//
// Fragments of lane l, with g = l / 4 and p = 2 · (l % 4), as in the PTX manual for mma.m16n8k16:
//   a, 16 rows × 16: a[0] (g, p), (g, p+1); a[1] (g+8, p ..); a[2] (g, p+8 ..); a[3] (g+8, p+8 ..)
//   b, 16 × 8 columns: b[0] (p, g), (p+1, g); b[1] (p+8, g), (p+9, g)
//   c, 16 × 8: c[0] (g, p), c[1] (g, p+1), c[2] (g+8, p), c[3] (g+8, p+1)
// The first of a pair of bf16 is in the low half.

// c += a · b, products exact, sums in fp32.
__device__ __forceinline__ void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 × 8 matrices of bf16 from shared memory: lane l gives the address, at a multiple of 16, of row l % 8 of matrix l / 8;
// r[m] of lane l becomes the elements (l / 4, 2 · (l % 4)) and the next of matrix m.
__device__ __forceinline__ void LoadMatrices(uint32_t (&r)[4], const void* shared_row) {
  const auto from = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}

// The same, each matrix transposed: r[m] of lane l becomes the elements (2 · (l % 4), l / 4) and (2 · (l % 4) + 1, l / 4).
__device__ __forceinline__ void LoadMatricesTransposed(uint32_t (&r)[4], const void* shared_row) {
  const auto from = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_INTRINSICS_CUH_
