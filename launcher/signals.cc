#include "launcher/signals.h"

#include <string.h>  // NOLINT(modernize-deprecated-headers): sigabbrev_np is glibc's

#include <atomic>

#include "runtime/base/check.h"

namespace entrain {
namespace {

// A handler may run on any thread and may touch nothing but lock-free atomics.
std::atomic<int> first_signal{0};
std::atomic<bool> installed{false};
static_assert(std::atomic<int>::is_always_lock_free);

void Remember(int signal) {
  int none = 0;
  first_signal.compare_exchange_strong(none, signal);
}

}  // namespace

StopSignals::StopSignals() {
  CHECK(!installed.exchange(true)) << "two StopSignals at once";
  first_signal = 0;
  struct sigaction action {};
  action.sa_handler = Remember;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < kSignals.size(); ++i) {
    CHECK_EQ(sigaction(kSignals[i], &action, &previous_[i]), 0);
  }
}

StopSignals::~StopSignals() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &previous_[i], nullptr);
  installed = false;
}

int StopSignals::received() const { return first_signal.load(); }

std::string SignalName(int signal) {
  const char* name = sigabbrev_np(signal);
  return name != nullptr ? "SIG" + std::string(name) : "signal " + std::to_string(signal);
}

}  // namespace entrain
