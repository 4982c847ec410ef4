// The emulated counterpart of runtime/kernels/cuda_warpgroup.cuh: the same names and contract. Products take place as late as they
// may; until then their sums are NaN.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDA_WARPGROUP_CUH_
#define ENTRAIN_RUNTIME_KERNELS_CUDA_WARPGROUP_CUH_

#include <cstdint>

#include "runtime/kernels/cuda_intrinsics.cuh"
#include "tests/support/emulated_gpu/kernel_thread.h"

namespace entrain::cuda {

inline constexpr int kWarpgroup = 128;
inline constexpr bool kWarpgroupProducts = true;

inline void Trap() {}

inline int ThreadReadAnew() { return static_cast<int>(threadIdx.x); }

template <int count>
inline void GiveRegisters() {}
template <int count>
inline void TakeRegisters() {}

inline uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(shared));
}

inline void InitBarrier(uint64_t* barrier, int arrivals) {
  emulated::InitBarrier(barrier, arrivals);
}
inline void ArriveAt(uint64_t* barrier) { emulated::ArriveAt(barrier); }
inline void WaitForPhase(uint64_t* barrier, unsigned parity) {
  emulated::WaitForPhase(barrier, parity);
}

inline void PublishToProducts() { emulated::PublishCopies(); }

inline void BeginProducts() {}

inline void CommitProducts() { emulated::CommitProducts(); }

template <int pending, typename... Sums>
inline void WaitForProducts(Sums&...) {
  emulated::WaitForProducts(pending);
}

template <bool row_major, bool accumulate>
inline void BeginProduct(float (&c)[8][4], const uint32_t (&a)[4], uint64_t b) {
  emulated::BeginProduct(&c[0][0], a, b, row_major, accumulate);
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_WARPGROUP_CUH_
