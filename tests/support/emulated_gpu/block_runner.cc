#include "tests/support/emulated_gpu/block_runner.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "tests/support/emulated_gpu/executable_symbols.h"
#include "tests/support/emulated_gpu/kernel_run.h"

namespace entrain::emulated {
namespace {

constexpr size_t kPage = BlockRunner::kGuardBytes;
// Odds of leaving a warp in the middle of what it could still do, one in so many.
constexpr uint32_t kWarpChangeOdds = 64;

}  // namespace

BlockRunner::BlockRunner() {
  const char* seed = std::getenv("ENTRAIN_EMULATED_SEED");
  SetSeed(seed != nullptr ? static_cast<uint32_t>(std::atoi(seed)) : 1);
  constexpr size_t kSharedRegion = (kMostSharedBytes + kPage) / kPage * kPage;
  void* base = mmap(nullptr, kSharedRegion + kPage, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(base != MAP_FAILED);
  shared_end_ = static_cast<char*>(base) + kSharedRegion;
  mprotect(shared_end_, kPage, PROT_NONE);
}

void BlockRunner::MakeRunnable(Thread& thread) {
  thread.state = ThreadState::kRunnable;
  Warp& warp = warps_[static_cast<size_t>(thread.warp)];
  if (warp.num_runnable == 0 && thread.warp != running_warp_) ready_.push_back(thread.warp);
  warp.runnable[static_cast<size_t>(warp.num_runnable++)] = &thread;
}

void BlockRunner::ThreadMain(Thread& thread) {
  for (;;) {
    Fiber::Acquire(&start_);
    launch_->run_thread();
    Fiber::Release(&end_);
    const UnseenByThreadSanitizer unseen;
    Return(thread);
    thread.fiber.Suspend();
  }
}

void BlockRunner::Return(Thread& thread) {
  thread.state = ThreadState::kReturned;
  if (warps_[static_cast<size_t>(thread.warp)].arrived > 0) {
    FailKernel("returned while other lanes of its warp wait for it at a warp-wide operation");
  }
  --live_;
  if (live_ > 0 && at_barrier_ == live_) ReleaseBarrier();
}

void BlockRunner::ReleaseBarrier() {
  at_barrier_ = 0;
  for (int i = 0; i < num_threads_; ++i) {
    Thread& thread = threads_[static_cast<size_t>(i)];
    if (thread.state == ThreadState::kAtBarrier) MakeRunnable(thread);
  }
}

void BlockRunner::SyncBlock() {
  Thread& thread = *current_;
  Fiber::Release(&at_barrier_);
  if (++at_barrier_ == live_) {
    ReleaseBarrier();
  } else {
    thread.state = ThreadState::kAtBarrier;
    thread.fiber.Suspend();
  }
  Fiber::Acquire(&at_barrier_);
}

void BlockRunner::ArriveAt(PhaseBarrier& barrier) {
  Fiber::Release(&barrier);
  if (--barrier.missing > 0) return;
  barrier.missing = barrier.arrivals;
  ++barrier.phase;
  for (int i = 0; i < num_threads_; ++i) {
    Thread& thread = threads_[static_cast<size_t>(i)];
    if (thread.state == ThreadState::kAtPhase && thread.barrier == &barrier) MakeRunnable(thread);
  }
}

void BlockRunner::WaitForPhase(const PhaseBarrier& barrier, unsigned parity) {
  Thread& thread = *current_;
  // Woken late, it may find that the phase after is complete, too, as a thread of a device would.
  while (barrier.phase % 2 == parity) {
    thread.barrier = &barrier;
    thread.state = ThreadState::kAtPhase;
    thread.fiber.Suspend();
  }
  Fiber::Acquire(&barrier);
}

void BlockRunner::JoinWarp(Collective collective, void* operand) {
  Thread& thread = *current_;
  Warp& warp = warps_[static_cast<size_t>(thread.warp)];
  if (warp.arrived == 0) {
    if (warp.lanes < kWarpLanes) {
      FailKernel(absl::StrCat("a warp-wide operation in a warp of ", warp.lanes, " threads"));
    }
    warp.collective = collective;
  } else if (collective != warp.collective) {
    FailKernel(absl::StrCat("arrives at ", CollectiveName(collective),
                            " while other lanes of its warp wait at ",
                            CollectiveName(warp.collective)));
  }
  warp.operands[static_cast<size_t>(thread.lane)] = operand;
  // Of all of them only the barrier orders accesses to memory.
  if (collective == Collective::kSync) Fiber::Release(&warp);
  if (++warp.arrived < kWarpLanes) {
    thread.state = ThreadState::kAtWarp;
    thread.fiber.Suspend();
  } else {
    PerformCollective(collective, warp.operands.data());
    ReleaseWarp(thread);
  }
  if (collective == Collective::kSync) Fiber::Acquire(&warp);
}

// All but the last to arrive, which runs on.
void BlockRunner::ReleaseWarp(const Thread& last) {
  warps_[static_cast<size_t>(last.warp)].arrived = 0;
  const int first = last.warp * kWarpLanes;
  for (int i = 0; i < kWarpLanes; ++i) {
    if (i != last.lane) MakeRunnable(threads_[static_cast<size_t>(first + i)]);
  }
}

void BlockRunner::PrepareThreads() {
  const dim3 block = launch_->block;
  num_threads_ = static_cast<int>(block.x * block.y * block.z);
  num_warps_ = (num_threads_ + kWarpLanes - 1) / kWarpLanes;
  while (static_cast<int>(threads_.size()) < num_threads_) {
    const size_t number = threads_.size();
    threads_.emplace_back([this, number] { ThreadMain(threads_[number]); });
  }
  for (int i = 0; i < num_threads_; ++i) {
    Thread& thread = threads_[static_cast<size_t>(i)];
    const auto linear = static_cast<unsigned int>(i);
    thread.index = {linear % block.x, linear / block.x % block.y, linear / block.x / block.y};
    thread.warp = i / kWarpLanes;
    thread.lane = i % kWarpLanes;
  }
}

// What a kernel reads without having written it is a NaN.
void BlockRunner::PrepareShared() {
  if (launch_->shared_bytes > 0) std::memset(dynamic_shared_, 0xff, launch_->shared_bytes);
  for (const std::span<char> variable : SharedVariables()) {
    std::memset(variable.data(), 0xff, variable.size());
  }
}

void BlockRunner::RunWarp(int index) {
  running_warp_ = index;
  Warp& warp = warps_[static_cast<size_t>(index)];
  while (warp.num_runnable > 0) {
    Thread*& picked = warp.runnable[Random(static_cast<uint32_t>(warp.num_runnable))];
    current_ = picked;
    picked = warp.runnable[static_cast<size_t>(--warp.num_runnable)];
    threadIdx = current_->index;
    current_->fiber.Resume();
    if (!ready_.empty() && Random(kWarpChangeOdds) == 0) break;
  }
  current_ = nullptr;
  running_warp_ = -1;
  if (warp.num_runnable > 0) ready_.push_back(index);
}

void BlockRunner::BeginKernel(const KernelLaunch& launch) {
  launch_ = &launch;
  dynamic_shared_ = shared_end_ - (launch.shared_bytes + 127) / 128 * 128;
  PrepareThreads();
  Fiber::Release(&start_);
}

void BlockRunner::RunBlock() {
  PrepareShared();
  for (int i = 0; i < num_warps_; ++i) {
    Warp& warp = warps_[static_cast<size_t>(i)];
    warp.lanes = std::min(kWarpLanes, num_threads_ - i * kWarpLanes);
    warp.num_runnable = warp.arrived = 0;
  }
  ready_.clear();
  live_ = num_threads_;
  at_barrier_ = 0;
  for (int i = 0; i < num_threads_; ++i) {
    Thread& thread = threads_[static_cast<size_t>(i)];
    thread.copies.Clear();
    thread.products.Clear();
    MakeRunnable(thread);
  }
  while (live_ > 0) {
    if (ready_.empty()) FailDeadlock();
    int& picked = ready_[Random(static_cast<uint32_t>(ready_.size()))];
    const int warp = picked;
    picked = ready_.back();
    ready_.pop_back();
    RunWarp(warp);
  }
  blocks_.Pass(&end_, &start_);
}

void BlockRunner::EndKernel() {
  Fiber::Acquire(&end_);
  launch_ = nullptr;
}

void BlockRunner::FailDeadlock() {
  std::string text = "deadlock:";
  for (int i = 0; i < num_warps_; ++i) {
    std::array<int, kThreadStates> counts = {};
    const int end = std::min(num_threads_, (i + 1) * kWarpLanes);
    for (int j = i * kWarpLanes; j < end; ++j) {
      ++counts[static_cast<size_t>(threads_[static_cast<size_t>(j)].state)];
    }
    absl::StrAppend(&text, "\n  warp ", i, ": ", counts[1], " at __syncthreads, ", counts[2],
                    " at ", CollectiveName(warps_[static_cast<size_t>(i)].collective), ", ",
                    counts[3], " at the end of a phase, ", counts[4], " returned");
  }
  FailKernel(text);
}

}  // namespace entrain::emulated
