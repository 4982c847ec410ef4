#include "parallel/comm/engine_nccl.h"

#include <cuda_runtime.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "parallel/comm/library_nccl.h"
#include "parallel/comm/rank_failure.h"
#include "runtime/base/check.h"
#include "runtime/device/cuda_device.h"

namespace entrain {
namespace {

constexpr std::chrono::milliseconds kWatchInterval(50);
// In which a lost rank's host, or the launcher, notices that it is gone.
constexpr std::chrono::seconds kGrace(2);
// Between two ranks that have the same to say.
constexpr std::chrono::seconds kTurn(2);

std::string RankText(Communicator& world) {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '?';
  return absl::StrCat(world.rank(), " of ", world.size(), " on ", host.data());
}

// NCCL does not say which one it is.
std::string OneOf(const std::vector<int>& ranks) {
  return ranks.size() == 1 ? RanksText(ranks) : absl::StrCat("one of ", RanksText(ranks));
}

}  // namespace

NcclEngine::NcclEngine(Context& context, Communicator& world, const CommTimeouts& timeouts)
    : context_(context),
      world_rank_(world.rank()),
      rank_text_(RankText(world)),
      wait_seconds_(timeouts.wait_seconds),
      thread_([this] { RunThread(); }) {}

NcclEngine::~NcclEngine() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void NcclEngine::Call(const std::string& name, const std::vector<int>& others, ncclComm_t* comm,
                      const std::function<ncclResult_t()>& call) {
  const std::lock_guard<std::mutex> lock(nccl_mutex_);
  const ncclResult_t result = call();
  CheckResult(name, result, *comm);
  if (*comm != nullptr) Await(name, others, *comm);
}

// Under nccl_mutex_: what NCCL has in progress is not asked for its state by two threads.
void NcclEngine::Await(const std::string& name, const std::vector<int>& others, ncclComm_t comm) {
  constexpr int kEagerPolls = 1000;
  constexpr std::chrono::microseconds kPause(20);
  const SteadyClock::time_point begun = SteadyClock::now();
  for (int polls = 0;; ++polls) {
    ncclResult_t state = ncclInProgress;
    CheckResult(name, nccl::Library().comm_get_async_error(comm, &state), comm);
    CheckResult(name, state, comm);
    if (state == ncclSuccess) return;
    if (Limit() > 0 && SecondsSince(begun) > Limit()) {
      Fail(name,
           absl::StrFormat("NCCL could not begin it for %g s: %s has not come to it, hangs, or "
                           "takes longer than the time-out",
                           wait_seconds_.load(), OneOf(others)));
    }
    if (polls < kEagerPolls) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kPause);
    }
  }
}

void NcclEngine::CheckResult(const std::string& name, ncclResult_t result, ncclComm_t comm) const {
  if (result == ncclSuccess || result == ncclInProgress) return;
  const std::string more = nccl::Library().get_last_error(comm);
  LetOthersSpeak();
  Fail(name, absl::StrCat("NCCL failed: ", nccl::Library().get_error_string(result),
                          more.empty() ? "" : absl::StrCat(" (", more, ")")));
}

void NcclEngine::Fail(const std::string& name, const std::string& what) const {
  FailRank(rank_text_, absl::StrCat(name, ": ", what));
}

// NCCL notices at once that a connection is gone, but not why: a rank that ended with a message of its own, and whoever watches
// its process, know more. And what fails on all ranks the lowest tells.
void NcclEngine::LetOthersSpeak() const {
  constexpr int kTurns = 10;  // few ranks may have noticed, and those of high numbers
  std::this_thread::sleep_for(kGrace + kTurn * std::min(world_rank_, kTurns));
}

// The lowest rank speaks first, and the launcher ends the others: one message, not one a rank.
double NcclEngine::Limit() const {
  const double seconds = wait_seconds_;
  return seconds > 0 ? seconds + static_cast<double>(kTurn.count()) * world_rank_ : 0.0;
}

void NcclEngine::Watch(std::shared_ptr<NcclOperation> operation) {
  const std::lock_guard<std::mutex> lock(mutex_);
  last_started_ = {.name = operation->name, .begun = operation->started};
  under_way_.push_back(std::move(operation));
}

void NcclEngine::Watch(ncclComm_t comm) {
  const std::lock_guard<std::mutex> lock(nccl_mutex_);
  comms_.push_back(comm);
}

void NcclEngine::Forget(ncclComm_t comm) {
  const std::lock_guard<std::mutex> lock(nccl_mutex_);
  std::erase(comms_, comm);
}

WorldOperation NcclEngine::LastOperation() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (under_way_.empty()) return last_started_;
  const NcclOperation& oldest = *under_way_.front();
  return {oldest.name, oldest.others, oldest.started};
}

void NcclEngine::RunThread() {
  CHECK_CUDA(cudaSetDevice(context_.cuda().ordinal));
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    CheckOperations();
    CheckCommunicators();
    lock.lock();
    if (!stopping_) wake_.wait_for(lock, kWatchInterval);
  }
}

void NcclEngine::CheckOperations() {
  std::vector<std::shared_ptr<NcclOperation>> operations;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    operations.assign(under_way_.begin(), under_way_.end());
  }
  std::erase_if(operations, [this](const auto& operation) { return !Check(*operation); });
  const std::lock_guard<std::mutex> lock(mutex_);
  under_way_.remove_if([&](const std::shared_ptr<NcclOperation>& operation) {
    return std::count(operations.begin(), operations.end(), operation) > 0;
  });
}

bool NcclEngine::Check(NcclOperation& operation) const {
  if (!operation.issued) return false;
  if (operation.ended.IsPast()) return true;
  // A rank's own ops before it may take any time.
  if (!operation.seen_begun && operation.begun.IsPast()) {
    operation.seen_begun = SteadyClock::now();
  }
  if (operation.seen_begun && Limit() > 0 && SecondsSince(*operation.seen_begun) > Limit()) {
    Fail(operation.name,
         absl::StrFormat("not done %g s after this rank began it: %s has not come to it, hangs, or "
                         "takes longer than the time-out",
                         wait_seconds_.load(), OneOf(operation.others)));
  }
  return false;
}

void NcclEngine::CheckCommunicators() {
  const std::unique_lock<std::mutex> lock(nccl_mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;  // a caller checks by itself
  for (ncclComm_t comm : comms_) {
    ncclResult_t state = ncclSuccess;
    CheckResult("a look at NCCL", nccl::Library().comm_get_async_error(comm, &state), comm);
    CheckResult(LastOperation().name, state, comm);
  }
}

}  // namespace entrain
