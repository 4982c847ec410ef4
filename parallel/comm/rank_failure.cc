#include "parallel/comm/rank_failure.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <mutex>
#include <utility>

namespace entrain {
namespace {

// Never destroyed: threads may fail while the process ends.
struct Hook {
  std::mutex mutex;
  FailureHook call;
};
Hook& TheHook() {
  static auto* hook = new Hook;
  return *hook;
}

}  // namespace

void SetFailureHook(FailureHook hook) {
  const std::lock_guard<std::mutex> lock(TheHook().mutex);
  TheHook().call = std::move(hook);
}

void FailRank(const std::string& rank, const std::string& what_happened) {
  static std::atomic<bool> failed{false};
  while (failed.exchange(true)) pause();
  const std::string message = "rank " + rank + ": " + what_happened;
  std::fflush(stdout);
  std::fprintf(stderr, "entrain: %s\n", message.c_str());
  std::fflush(stderr);
  // The hook may hang with what this rank hangs in, as a file system.
  std::signal(SIGALRM, SIG_DFL);
  alarm(10);
  const std::lock_guard<std::mutex> lock(TheHook().mutex);
  if (TheHook().call) TheHook().call(message);
  _exit(1);
}

}  // namespace entrain
