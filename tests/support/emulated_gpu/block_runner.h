// BlockRunner: runs a block, each thread as a fiber: its threads, and what they wait for.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_BLOCK_RUNNER_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_BLOCK_RUNNER_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "tests/support/emulated_gpu/emulated_gpu.h"
#include "tests/support/emulated_gpu/fiber.h"
#include "tests/support/emulated_gpu/kernel_thread.h"
#include "tests/support/emulated_gpu/warp_operations.h"

namespace entrain::emulated {

inline constexpr int kMostWarps = kMostBlockThreads / kWarpLanes;

enum class ThreadState : uint8_t { kRunnable, kAtBarrier, kAtWarp, kAtPhase, kReturned };
inline constexpr size_t kThreadStates = 5;

// What an InitBarrier leaves at its place.
struct PhaseBarrier {
  uint16_t arrivals;  // of a phase
  uint16_t missing;   // in this one
  uint32_t phase;
};
static_assert(sizeof(PhaseBarrier) == sizeof(uint64_t));
inline constexpr int kMostArrivals = 1024;

struct Thread {
  explicit Thread(std::function<void()> main) : fiber(std::move(main)) {}

  Fiber fiber;
  uint3 index = {};
  int warp = 0;
  int lane = 0;
  ThreadState state = ThreadState::kReturned;
  const PhaseBarrier* barrier = nullptr;  // that it waits at
  AsyncCopies copies;
  AsyncProducts products;
};

struct Warp {
  int lanes = 0;  // that exist
  int num_runnable = 0;
  std::array<Thread*, kWarpLanes> runnable;
  int arrived = 0;
  Collective collective = Collective::kSync;
  std::array<void*, kWarpLanes> operands;
};

class BlockRunner {
 public:
  static constexpr size_t kGuardBytes = 4096;  // behind shared memory: touching them is an error

  BlockRunner();
  void SetSeed(uint32_t seed) { random_ = 0x9e3779b9U * (seed + 1) | 1U; }

  // All blocks between the two are of this launch. To ThreadSanitizer they are one after another, behind what was before
  // BeginKernel and before what comes after EndKernel.
  void BeginKernel(const KernelLaunch& launch);
  void RunBlock();  // blockIdx
  void EndKernel();

  Thread& thread() { return *current_; }
  const KernelLaunch* launch() const { return launch_; }
  char* dynamic_shared() const { return dynamic_shared_; }
  size_t dynamic_bytes() const { return static_cast<size_t>(shared_end_ - dynamic_shared_); }
  void SyncBlock();
  void JoinWarp(Collective collective, void* operand);
  void ArriveAt(PhaseBarrier& barrier);
  void WaitForPhase(const PhaseBarrier& barrier, unsigned parity);
  bool IsUnpublished(const void* start, size_t bytes) const {
    return std::any_of(threads_.begin(), threads_.begin() + num_threads_,
                       [&](const Thread& thread) { return thread.copies.Hides(start, bytes); });
  }

 private:
  void PrepareThreads();
  void PrepareShared();
  void RunWarp(int warp);
  [[noreturn]] void ThreadMain(Thread& thread);
  void Return(Thread& thread);
  void MakeRunnable(Thread& thread);
  void ReleaseBarrier();
  void ReleaseWarp(const Thread& last);
  [[noreturn]] void FailDeadlock();
  uint32_t Random(uint32_t below) {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 17;
    random_ ^= random_ << 5;
    return static_cast<uint32_t>((static_cast<uint64_t>(random_) * below) >> 32);
  }

  const KernelLaunch* launch_ = nullptr;
  std::deque<Thread> threads_;
  int num_threads_ = 0;  // of the block
  std::array<Warp, kMostWarps> warps_;
  int num_warps_ = 0;
  std::vector<int> ready_;  // warps with runnable threads, but for the one that runs
  int running_warp_ = -1;
  Thread* current_ = nullptr;
  int live_ = 0;
  int at_barrier_ = 0;
  char start_ = 0, end_ = 0;  // of a block: their addresses stand for them
  Relay blocks_;              // not the caller, which has seen other runners' blocks as well
  char* shared_end_ = nullptr;
  char* dynamic_shared_ = nullptr;
  uint32_t random_ = 1;
};

// The one whose block runs.
BlockRunner& Runner();

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_BLOCK_RUNNER_H_
