// What a thread of an emulated kernel can do: the device side of the emulator, called by the emulated cuda_intrinsics.cuh.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_KERNEL_THREAD_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_KERNEL_THREAD_H_

#include <cuda_runtime.h>

#include <bit>
#include <cstdint>

// The language's built-in variables, of the thread that runs. One kernel runs at a time.
inline uint3 threadIdx;
inline uint3 blockIdx;
inline dim3 blockDim;
inline dim3 gridDim;

namespace entrain::emulated {

// The thread's number in its warp.
unsigned int Lane();

// __syncthreads(): returns when every thread of the block that has not returned yet is here.
void SyncBlock();

// A barrier in shared memory, which phase after phase waits for `arrivals` (cuda_warpgroup.cuh).
void InitBarrier(uint64_t* barrier, int arrivals);
void ArriveAt(uint64_t* barrier);
void WaitForPhase(uint64_t* barrier, unsigned parity);

// What a warp does together. All 32 lanes must arrive at the same one.
enum class Collective : uint8_t {
  kSync,
  kShuffle,
  kMultiplyAdd,
  kLoadMatrices,
  kLoadMatricesTransposed,
  kTileProduct
};
struct ShuffleOperand {
  uint64_t value = 0;  // in: this lane's; out: that of lane `from`
  int from = 0;
};
struct MultiplyAddOperand {
  float* c;
  const uint32_t* a;
  const uint32_t* b;
};
struct LoadMatricesOperand {
  uint32_t* r;
  const void* row;
};
// A lane's part in c += a·b by a warpgroup, of which each warp has 16 rows; b in shared memory (cuda_warpgroup.cuh).
struct TileProductOperand {
  float* c;
  const uint32_t* a;
  uint64_t b;  // descriptor
  bool row_major;
};
// For ThreadSanitizer: the lane itself reads what the last one to arrive reads for it.
inline void NoteRead16([[maybe_unused]] const void* from) {
#ifdef __SANITIZE_THREAD__
  static_cast<void>(static_cast<const volatile uint64_t*>(from)[0]);
  static_cast<void>(static_cast<const volatile uint64_t*>(from)[1]);
#endif
}
// The last lane to arrive computes for all of them. `operand`: of the collective's type, read and written until this returns.
void JoinWarp(Collective collective, void* operand);

char* DynamicShared();

// Copies take place as late as they may: in the wait that requires them. Until then their destination holds 0xff bytes.
void BeginCopy16(void* shared, const void* global, bool valid);
void CommitCopies();
void WaitForCopies(int pending);

// The thread's copies that it has waited for may be read by products that begin after a barrier.
void PublishCopies();

// Products take place as late as they may: in the wait that requires them. Until then their sums hold 0xff bytes, and the left
// operand must stay as it is.
void BeginProduct(float* c, const uint32_t* a, uint64_t b, bool row_major, bool accumulate);
void CommitProducts();
void WaitForProducts(int pending);

// To nearest even; a NaN becomes 0x7fff, as in cvt.rn.bf16x2.
inline uint16_t RoundToBf16(float value) {
  const auto word = std::bit_cast<uint32_t>(value);
  if ((word & 0x7fffffffU) > 0x7f800000U) return 0x7fff;
  return static_cast<uint16_t>((word + 0x7fffU + ((word >> 16) & 1U)) >> 16);
}

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_KERNEL_THREAD_H_
