#include "launcher/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/verdict.h"
#include "parallel/comm/rank_failure.h"
#include "runtime/base/clock.h"

namespace entrain {
namespace {

constexpr std::chrono::milliseconds kTick(100);
// mpirun kills ranks about a second after it has sent them SIGTERM; a step that ends before that saves and needs no words.
constexpr std::chrono::milliseconds kPatience(300);

// Of several ranks that wait for one that is gone, the lowest speaks for all: every lower one is itself awaited.
bool SpeaksFor(int rank, const std::vector<int>& awaited) {
  int lower = 0;
  for (const int other : awaited) lower += other < rank ? 1 : 0;
  return !awaited.empty() && lower == rank;
}

std::string WhereIsIt(const RunStatus& status, const WorldOperation& operation) {
  return absl::StrCat("after step ", status.step, ", in phase ",
                      std::string(kRunPhaseNames.Name(status.phase)), ", ", Describe(operation));
}

std::string WhatRemains(const RunStatus& status) {
  return absl::StrCat("the run continues from its last checkpoint",
                      status.last_commit ? absl::StrCat(", step ", *status.last_commit) : "");
}

}  // namespace

Watchdog::Watchdog(WatchdogOptions options) : options_(std::move(options)) {
  thread_ = std::thread([this] { Run(); });
}

Watchdog::~Watchdog() {
  Enter(RunPhase::kEnd);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Watchdog::Enter(RunPhase phase) {
  const std::lock_guard<std::mutex> lock(mutex_);
  status_.phase = phase;
  entered_ = SteadyClock::now();
}

void Watchdog::StepDone(int64_t step, double loss) {
  const std::lock_guard<std::mutex> lock(mutex_);
  status_.step = step;
  status_.loss = loss;
}

void Watchdog::Committed(int64_t step, const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex_);
  status_.step = std::max(status_.step, step);  // a run that resumes there
  status_.last_commit = step;
  status_.checkpoint = path;
}

RunStatus Watchdog::status() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  RunStatus status = status_;
  status.phase_seconds = SecondsSince(entered_);
  return status;
}

void Watchdog::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!wake_.wait_for(lock, kTick, [this] { return stopping_; })) {
    lock.unlock();
    const RunStatus now = status();
    CheckPeers(now);
    CheckDeadline(now);
    CheckTermination(now);
    lock.lock();
  }
}

double Watchdog::LimitMinutes(RunPhase phase) const {
  switch (phase) {
    case RunPhase::kStartup:
      return options_.startup_minutes;
    case RunPhase::kStep:
      return options_.step_minutes;
    case RunPhase::kSave:
    case RunPhase::kEnd:
      return options_.save_minutes;
  }
  return 0.0;
}

// The lowest rank speaks first, and the launcher ends the others.
void Watchdog::CheckDeadline(const RunStatus& status) const {
  const double limit = LimitMinutes(status.phase);
  if (limit <= 0 || status.phase_seconds <= 60.0 * limit + 2.0 * options_.rank_number) return;
  const std::string phase(kRunPhaseNames.Name(status.phase));
  FailRank(
      options_.rank,
      absl::StrFormat("no end of %s within %g minutes ([run] %s_timeout_minutes): ended by the "
                      "watchdog; %s",
                      status.phase == RunPhase::kStep ? absl::StrCat("step ", status.step + 1)
                                                      : absl::StrCat("the ", phase),
                      limit, status.phase == RunPhase::kEnd ? "save" : phase,
                      WhereIsIt(status, options_.last_operation())));
}

// A rank that ends before the others is lost, and so is what they compute: none can finish a step without it. One that found
// its own end has told why already.
void Watchdog::CheckPeers(const RunStatus& status) const {
  const std::optional<RankProcess> lost = options_.lost_rank();
  if (!lost) return;
  if (options_.is_told()) _exit(static_cast<int>(ExitCode::kFailed));
  FailRank(options_.rank,
           absl::StrFormat("rank %d (process %d) has ended without a message (killed, out of "
                           "memory, or crashed); this rank is %s; %s",
                           lost->rank, lost->process, WhereIsIt(status, options_.last_operation()),
                           WhatRemains(status)));
}

// When a rank of another host is lost the launcher ends the others, and says that it was lost but not what they did with it.
void Watchdog::CheckTermination(const RunStatus& status) {
  if (termination_told_ || options_.received_signal() != SIGTERM) return;
  const SteadyClock::time_point now = SteadyClock::now();
  if (!terminated_) terminated_ = now;
  if (now - *terminated_ < kPatience) return;
  const WorldOperation operation = options_.last_operation();
  if (!SpeaksFor(options_.rank_number, operation.awaited)) return;
  termination_told_ = true;
  if (options_.is_told()) return;
  std::fprintf(stderr,
               "entrain: rank %s: told to end (SIGTERM) %s; if that rank is lost, the launcher "
               "says how, and %s\n",
               options_.rank.c_str(), WhereIsIt(status, operation).c_str(),
               WhatRemains(status).c_str());
}

}  // namespace entrain
