// Products by a warpgroup, four neighbouring warps, on Hopper's tensor cores (wgmma): asynchronous, the right operand read from
// shared memory. Other architectures have none: kernels that use them ask kWarpgroupProducts first.
//
// Begun products read their operands and write their sums until WaitForProducts says that they are done. Until then nobody may
// touch the sums, change the left operand's registers or write to the tile. All threads of the warpgroup must call.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDA_WARPGROUP_CUH_
#define ENTRAIN_RUNTIME_KERNELS_CUDA_WARPGROUP_CUH_

#include <cstdint>

#include "runtime/kernels/cuda_intrinsics.cuh"

namespace entrain::cuda {

inline constexpr int kWarpgroup = 128;  // threads

// Whether the code that is compiled has these instructions: sm_90a only, not sm_90 and not PTX for it.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr bool kWarpgroupProducts = true;
#else
inline constexpr bool kWarpgroupProducts = false;
#endif

// Ends the kernel with an error.
__device__ __forceinline__ void Trap() { __trap(); }

// threadIdx.x, read anew: what follows from it is not kept in registers from before, where they are scarce.
__device__ __forceinline__ int ThreadReadAnew() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;\n" : "=r"(thread));
  return thread;
}

// From here on each thread of the warpgroup has `count` registers, a multiple of 8: fewer than before (Give), or more (Take), for
// which it waits until others of the block have given them.
template <int count>
__device__ __forceinline__ void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(count));
}
template <int count>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(count));
}

// Where something lies in shared memory, in bytes.
__device__ __forceinline__ uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// ---- barriers in shared memory ----
//
// A phase is complete when `arrivals` threads have arrived; the next one then begins. Phases have parity 0, 1, 0, ...

// Before a __syncthreads, after which the barrier may be used.
__device__ __forceinline__ void InitBarrier(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(SharedAddress(barrier)),
               "r"(arrivals)
               : "memory");
}

// What this thread has done so far is before what others do after they have waited for the phase.
__device__ __forceinline__ void ArriveAt(uint64_t* barrier) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared::cta.b64 state, [%0];\n}\n" ::"r"(
                   SharedAddress(barrier))
               : "memory");
}

// Waits until the phase of this parity is complete: the present one, or the last one, of which it then knows at once. So the
// first wait for parity 1 is for what was before all phases.
__device__ __forceinline__ void WaitForPhase(uint64_t* barrier, unsigned parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}\n" ::
          "r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}

// ---- products ----

// What this thread has written to shared memory, copies that it waited for included, may be read by products that begin after
// a barrier.
__device__ __forceinline__ void PublishToProducts() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

// Comes before the first product that reads or adds to registers which were written since the last one.
__device__ __forceinline__ void BeginProducts() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}

// Ends a group: the products begun since the last one.
__device__ __forceinline__ void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}

// The compiler may not move what reads or writes these registers across.
__device__ __forceinline__ void Pin(float (&sums)[8][4]) {
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(sums[n][i])::"memory");
  }
}

// Waits until at most `pending` groups, the latest, are under way. `sums`: what was made by those that are done.
template <int pending, typename... Sums>
__device__ __forceinline__ void WaitForProducts(Sums&... sums) {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(pending) : "memory");
  (Pin(sums), ...);
}

// Begins c += a·b (accumulate) or c = a·b. c: 64 × 64; warp w of the warpgroup has rows 16·w .., of 8 neighbouring columns each
// the fragment of MultiplyAdd. a: 64 × 16, each warp's rows as in MultiplyAdd. b: 16 × 64, in the tile that the descriptor
// names (PTX manual: matrix descriptor): columns of b are rows of the tile, or, row_major, rows are.
template <bool row_major, bool accumulate>
__device__ __forceinline__ void BeginProduct(float (&c)[8][4], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
      "{%32,%33,%34,%35}, %36, accumulate, 1, 1, %38;\n}\n"
      : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), "+f"(c[1][1]),
        "+f"(c[1][2]), "+f"(c[1][3]), "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]),
        "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]), "+f"(c[4][0]), "+f"(c[4][1]),
        "+f"(c[4][2]), "+f"(c[4][3]), "+f"(c[5][0]), "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]),
        "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]), "+f"(c[7][0]), "+f"(c[7][1]),
        "+f"(c[7][2]), "+f"(c[7][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(accumulate ? 1 : 0),
        "n"(row_major ? 1 : 0));
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_WARPGROUP_CUH_
