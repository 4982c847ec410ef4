#include "parallel/comm/host_engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "parallel/comm/communicator_limits.h"
#include "parallel/comm/rank_failure.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"

namespace entrain {

bool PendingOperation::Advance() {
  if (!operation->Advance()) return false;
  finished = std::chrono::steady_clock::now();
  done = true;
  return true;
}

HostEngine::HostEngine(std::unique_ptr<Transport> transport, const HostCommunicatorOptions& options)
    : transport_(std::move(transport)),
      progress_microseconds_(options.progress_microseconds),
      wait_seconds_(options.timeouts.wait_seconds),
      silence_seconds_(options.timeouts.silence_seconds) {
  if (options.monitor_peers && transport_->size() > 1) {
    monitor_.emplace(*transport_, kBeatTag, Clock::now());
  }
  if (progress_microseconds_ > 0 || monitor_) thread_ = std::thread([this] { RunThread(); });
}

HostEngine::~HostEngine() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    CHECK(pending_.empty()) << "a communicator ended before its operations";
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (monitor_) SayFarewell();
}

std::shared_ptr<PendingOperation> HostEngine::Start(
    std::string name, std::vector<int> members,
    const std::function<std::unique_ptr<HostOperation>()>& make) {
  const Clock::time_point begun = Clock::now();
  {
    const std::lock_guard<std::mutex> lock(last_mutex_);
    last_started_ = {.name = name, .begun = begun};
  }
  auto pending = std::make_shared<PendingOperation>();
  pending->begun = begun;
  pending->name = std::move(name);
  pending->members = std::move(members);
  const std::lock_guard<std::mutex> lock(mutex_);
  pending->operation = make();
  if (!pending->Advance()) pending_.push_back(pending);
  if (progress_microseconds_ > 0) wake_.notify_one();
  return pending;
}

void HostEngine::Poll() {
  const std::lock_guard<std::mutex> lock(mutex_);
  PollLocked();
}

void HostEngine::PollLocked() {
  pending_.remove_if([](const std::shared_ptr<PendingOperation>& p) { return p->Advance(); });
}

// At first without a pause, for small operations end in microseconds, then with short ones, for the peer may need this core.
void HostEngine::Wait(PendingOperation& pending) {
  constexpr int kEagerPolls = 200;
  constexpr std::chrono::microseconds kPause(20);
  auto last_progress = Clock::now();
  int64_t last_messages = -1;
  for (int polls = 0; !pending.done; ++polls) {
    Poll();
    if (pending.done) return;
    if (polls < kEagerPolls) {
      std::this_thread::yield();
      continue;
    }
    const int64_t messages = MessagesOf(pending);
    if (messages != last_messages) last_progress = Clock::now();
    last_messages = messages;
    const double waited = SecondsSince(last_progress);
    // The lowest rank speaks first, and the launcher ends the others: one message, not one a rank.
    const double limit = wait_seconds_;
    if (limit > 0 && waited > limit + 2.0 * transport_->rank()) TimeOut(pending);
    std::this_thread::sleep_for(kPause);
  }
}

int64_t HostEngine::MessagesOf(const PendingOperation& pending) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return pending.operation->completed_messages();
}

std::vector<int> HostEngine::AwaitedBy(const PendingOperation& pending) {
  std::vector<int> ranks;
  for (const int r : pending.operation->Awaited()) {
    ranks.push_back(pending.members[static_cast<size_t>(r)]);
  }
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

void HostEngine::TimeOut(const PendingOperation& pending) {
  const std::lock_guard<std::mutex> lock(mutex_);
  FailRank(
      transport_->Describe(),
      absl::StrFormat("%s: nothing came from %s for %g s, although its process lives: it hangs, "
                      "or takes longer than the time-out",
                      pending.name, RanksText(AwaitedBy(pending)), wait_seconds_.load()));
}

void HostEngine::SetTimeouts(const CommTimeouts& timeouts) {
  wait_seconds_ = timeouts.wait_seconds;
  silence_seconds_ = timeouts.silence_seconds;
}

WorldOperation HostEngine::LastOperation() {
  // A waiter holds the lock every few microseconds, a thread that hangs in the transport for ever.
  constexpr int kTries = 100;
  for (int i = 0; i < kTries; ++i) {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (lock.owns_lock()) return LastOperationLocked();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return LastStarted();
}

WorldOperation HostEngine::LastOperationLocked() {
  if (pending_.empty()) return LastStarted();
  const PendingOperation& oldest = *pending_.front();
  return {oldest.name, AwaitedBy(oldest), oldest.begun};
}

WorldOperation HostEngine::LastStarted() {
  const std::lock_guard<std::mutex> lock(last_mutex_);
  return last_started_;
}

int HostEngine::NextCommunicator() {
  const std::lock_guard<std::mutex> lock(mutex_);
  CHECK_LT(communicators_, kMaxCommunicators);
  return communicators_++;
}

std::chrono::microseconds HostEngine::Pause() const {
  constexpr std::chrono::microseconds kTick = PeerMonitor::kInterval / 4;
  if (progress_microseconds_ > 0 && !pending_.empty()) {
    return std::chrono::microseconds(progress_microseconds_);
  }
  return kTick;
}

void HostEngine::RunThread() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    if (progress_microseconds_ > 0) PollLocked();
    if (monitor_) CheckPeer(Clock::now());
    wake_.wait_for(lock, Pause());
  }
}

// Under the lock.
void HostEngine::CheckPeer(Clock::time_point now) {
  monitor_->Beat(now);
  const double limit = silence_seconds_;
  const double silence = monitor_->Silence(now);
  if (limit <= 0 || silence <= limit) return;
  FailRank(
      transport_->Describe(),
      absl::StrFormat("rank %d has given no sign of life for %.0f s: its process is stopped or "
                      "gone, or its host cannot be reached; this rank is %s",
                      monitor_->predecessor(), silence, Describe(LastOperationLocked())));
}

void HostEngine::SayFarewell() {
  monitor_->SayFarewell();
  while (true) {
    CheckPeer(Clock::now());
    if (monitor_->Left()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace entrain
