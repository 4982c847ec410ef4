// The emulated counterpart of runtime/kernels/cuda_intrinsics.cuh: the same names and contract, for kernels that g++ compiles and
// tests/support/emulated_gpu runs. Its folder comes first on the include path of an emulated build.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDA_INTRINSICS_CUH_
#define ENTRAIN_RUNTIME_KERNELS_CUDA_INTRINSICS_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "runtime/device/cuda_check.h"
#include "tests/support/emulated_gpu/cuda_language.h"
#include "tests/support/emulated_gpu/emulated_gpu.h"
#include "tests/support/emulated_gpu/kernel_thread.h"
#include "tests/support/emulated_gpu/tensor_core_sum.h"

namespace entrain::cuda {

// ---- launching, on the host ----

template <typename... Parameters, typename... Arguments>
void Launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, const Arguments&... arguments) {
  std::tuple<Parameters...> values{static_cast<Parameters>(arguments)...};
  emulated::EnqueueKernel({.kernel = reinterpret_cast<const void*>(kernel),
                           .grid = grid,
                           .block = block,
                           .shared_bytes = shared_bytes,
                           .run_thread = [kernel, values] { std::apply(kernel, values); }},
                          stream);
  CheckCuda(cudaGetLastError(), "the launch of a kernel");
}

template <typename... Parameters>
void AllowSharedBytes(void (*kernel)(Parameters...), size_t shared_bytes) {
  CHECK_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shared_bytes)));
}

// ---- memory of a block ----

inline char* DynamicShared() { return emulated::DynamicShared(); }

inline void CopyAsync16(void* shared, const void* global, bool valid = true) {
  emulated::BeginCopy16(shared, global, valid);
}

inline void CommitCopies() { emulated::CommitCopies(); }

template <int pending>
inline void WaitForCopies() {
  emulated::WaitForCopies(pending);
}

// ---- numbers ----

inline float Exp2(float x) {
  const float y = emulated::Exponential(x);
  return y < 0x1p-126F ? 0.0F : y;
}

inline uint32_t PackBf16(float low, float high) {
  return emulated::RoundToBf16(low) | static_cast<uint32_t>(emulated::RoundToBf16(high)) << 16;
}

// ---- warps ----

template <typename T>
inline T ShuffleFrom(T value, int from) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "what shuffles of the language take");
  emulated::ShuffleOperand operand;
  operand.from = from;
  std::memcpy(&operand.value, &value, sizeof(T));
  emulated::JoinWarp(emulated::Collective::kShuffle, &operand);
  std::memcpy(&value, &operand.value, sizeof(T));
  return value;
}

template <typename T>
inline T ShuffleXor(T value, int mask) {
  return ShuffleFrom(value, static_cast<int>(emulated::Lane()) ^ mask);
}

// ---- tensor cores ----

inline void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulated::MultiplyAddOperand operand{.c = c, .a = a, .b = b};
  emulated::JoinWarp(emulated::Collective::kMultiplyAdd, &operand);
}

inline void LoadMatrices(uint32_t (&r)[4], const void* shared_row) {
  emulated::LoadMatricesOperand operand{.r = r, .row = shared_row};
  emulated::NoteRead16(shared_row);
  emulated::JoinWarp(emulated::Collective::kLoadMatrices, &operand);
}

inline void LoadMatricesTransposed(uint32_t (&r)[4], const void* shared_row) {
  emulated::LoadMatricesOperand operand{.r = r, .row = shared_row};
  emulated::NoteRead16(shared_row);
  emulated::JoinWarp(emulated::Collective::kLoadMatricesTransposed, &operand);
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_INTRINSICS_CUH_
