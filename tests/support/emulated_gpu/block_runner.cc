#include "tests/support/emulated_gpu/block_runner.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "tests/support/emulated_gpu/executable_symbols.h"
#include "tests/support/emulated_gpu/fault_report.h"
#include "tests/support/emulated_gpu/fiber.h"
#include "tests/support/emulated_gpu/kernel_thread.h"
#include "tests/support/emulated_gpu/warp_operations.h"

namespace entrain::emulated {
namespace {

constexpr size_t kPage = 4096;
constexpr int kMostWarps = kMostBlockThreads / kWarpLanes;
// Odds of leaving a warp in the middle of what it could still do, one in so many.
constexpr uint32_t kWarpChangeOdds = 64;

enum class ThreadState : uint8_t { kRunnable, kAtBarrier, kAtWarp, kAtPhase, kReturned };
constexpr size_t kThreadStates = 5;

// What an InitBarrier leaves at its place.
struct PhaseBarrier {
  uint16_t arrivals;  // of a phase
  uint16_t missing;   // in this one
  uint32_t phase;
};
static_assert(sizeof(PhaseBarrier) == sizeof(uint64_t));
constexpr int kMostArrivals = 1024;

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
  BlockRunner();
  void SetSeed(uint32_t seed) { random_ = 0x9e3779b9U * (seed + 1) | 1U; }
  void Run(const KernelLaunch& launch);

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
  void RunBlock();
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
  char start_ = 0, end_ = 0;  // of the block: their addresses stand for them
  char* shared_end_ = nullptr;
  char* dynamic_shared_ = nullptr;
  uint32_t random_ = 1;
};

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
  Fiber::Release(&start_);
  while (live_ > 0) {
    if (ready_.empty()) FailDeadlock();
    int& picked = ready_[Random(static_cast<uint32_t>(ready_.size()))];
    const int warp = picked;
    picked = ready_.back();
    ready_.pop_back();
    RunWarp(warp);
  }
  Fiber::Acquire(&end_);
}

void BlockRunner::Run(const KernelLaunch& launch) {
  launch_ = &launch;
  blockDim = launch.block;
  gridDim = launch.grid;
  dynamic_shared_ = shared_end_ - (launch.shared_bytes + 127) / 128 * 128;
  PrepareThreads();
  for (unsigned int z = 0; z < launch.grid.z; ++z) {
    for (unsigned int y = 0; y < launch.grid.y; ++y) {
      for (unsigned int x = 0; x < launch.grid.x; ++x) {
        blockIdx = {x, y, z};
        RunBlock();
      }
    }
  }
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

BlockRunner& Runner() {
  static auto* runner = new BlockRunner();  // its fibers are never unwound
  return *runner;
}

int64_t kernels_run = 0;

}  // namespace

void RunKernel(const KernelLaunch& launch) {
  const UnseenByThreadSanitizer unseen;
  ReportFaults();
  Runner().Run(launch);
  ++kernels_run;
}

void SetSeed(uint32_t seed) { Runner().SetSeed(seed); }

int64_t KernelsRun() { return kernels_run; }

std::string WhereInKernel() {
  const KernelLaunch* launch = Runner().launch();
  if (launch == nullptr) return "";
  auto text = [](auto index) {
    return absl::StrCat("(", index.x, ", ", index.y, ", ", index.z, ")");
  };
  return absl::StrCat("kernel ", FunctionName(launch->kernel), ", grid ", text(launch->grid),
                      ", block ", text(blockIdx), ", thread ", text(threadIdx));
}

void FailKernel(const std::string& what) {
  std::fprintf(stderr, "emulated GPU: %s: %s\n", WhereInKernel().c_str(), what.c_str());
  std::abort();
}

bool IsShared(const void* start, size_t bytes) {
  auto within = [&](std::span<char> memory) {
    return start >= memory.data() &&
           static_cast<const char*>(start) + bytes <= memory.data() + memory.size();
  };
  if (within({Runner().dynamic_shared(), Runner().dynamic_bytes()})) return true;
  return std::ranges::any_of(SharedVariables(), within);
}

bool IsUnpublished(const void* start, size_t bytes) { return Runner().IsUnpublished(start, bytes); }

std::string DescribeShared(const void* address) {
  const char* end = Runner().dynamic_shared() + Runner().dynamic_bytes();
  const auto* byte = static_cast<const char*>(address);
  if (byte < end || byte >= end + kPage) return "";
  return absl::StrCat(byte - end, " bytes past the end of the block's dynamic shared memory");
}

unsigned int Lane() {
  const UnseenByThreadSanitizer unseen;
  return static_cast<unsigned int>(Runner().thread().lane);
}

void SyncBlock() {
  const UnseenByThreadSanitizer unseen;
  Runner().SyncBlock();
}

void JoinWarp(Collective collective, void* operand) {
  const UnseenByThreadSanitizer unseen;
  Runner().JoinWarp(collective, operand);
}

namespace {

PhaseBarrier& BarrierAt(uint64_t* place) {
  if (reinterpret_cast<uintptr_t>(place) % sizeof(PhaseBarrier) != 0 ||
      !IsShared(place, sizeof(PhaseBarrier))) {
    FailKernel("a barrier: its place is not in the block's shared memory at a multiple of 8");
  }
  return *reinterpret_cast<PhaseBarrier*>(place);
}

PhaseBarrier& InitialisedBarrierAt(uint64_t* place) {
  PhaseBarrier& barrier = BarrierAt(place);
  if (barrier.arrivals > kMostArrivals) FailKernel("a barrier that was not initialised");
  return barrier;
}

}  // namespace

void InitBarrier(uint64_t* barrier, int arrivals) {
  const UnseenByThreadSanitizer unseen;
  const auto count = static_cast<uint16_t>(arrivals);
  BarrierAt(barrier) = {.arrivals = count, .missing = count, .phase = 0};
}

void ArriveAt(uint64_t* barrier) {
  const UnseenByThreadSanitizer unseen;
  Runner().ArriveAt(InitialisedBarrierAt(barrier));
}

void WaitForPhase(uint64_t* barrier, unsigned parity) {
  const UnseenByThreadSanitizer unseen;
  Runner().WaitForPhase(InitialisedBarrierAt(barrier), parity);
}

char* DynamicShared() {
  const UnseenByThreadSanitizer unseen;
  return Runner().dynamic_shared();
}

namespace {

AsyncCopies& CopiesOfThread() {
  const UnseenByThreadSanitizer unseen;
  return Runner().thread().copies;
}
AsyncProducts& ProductsOfThread() {
  const UnseenByThreadSanitizer unseen;
  return Runner().thread().products;
}

}  // namespace

// What these do to memory is seen.
void BeginCopy16(void* shared, const void* global, bool valid) {
  CopiesOfThread().Begin(shared, global, valid);
}
void CommitCopies() { CopiesOfThread().Commit(); }
void WaitForCopies(int pending) { CopiesOfThread().Wait(pending); }
void PublishCopies() { CopiesOfThread().Publish(); }
void BeginProduct(float* c, const uint32_t* a, uint64_t b, bool row_major, bool accumulate) {
  ProductsOfThread().Begin(c, a, b, row_major, accumulate);
}
void CommitProducts() { ProductsOfThread().Commit(); }
void WaitForProducts(int pending) { ProductsOfThread().Wait(pending); }

}  // namespace entrain::emulated
