#include "tests/support/emulated_gpu/fault_report.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "tests/support/emulated_gpu/device_memory.h"
#include "tests/support/emulated_gpu/kernel_run.h"

namespace entrain::emulated {
namespace {

// A kernel's own stack may be what overflowed.
constexpr size_t kStackBytes = size_t{256} << 10;
constexpr unsigned int kMostSeconds = 20;

struct sigaction before;

// The process is about to end: what is not safe in a handler of signals is tried nevertheless, for a limited time.
void Report(int /*signal*/, siginfo_t* info, void* /*context*/) {
  sigaction(SIGSEGV, &before, nullptr);  // for the same fault again, after this
  alarm(kMostSeconds);
  const std::string where = WhereInKernel();
  if (where.empty() && !IsNearDeviceMemory(info->si_addr)) return;
  std::string what = DescribeShared(info->si_addr);
  if (what.empty()) what = DescribeAddress(info->si_addr);
  if (info->si_code == SI_KERNEL) what = "which may be misaligned";  // its address is not known
  std::fprintf(stderr, "emulated GPU: %s: an access to %p, %s\n",
               where.empty() ? "host code touched device memory" : where.c_str(), info->si_addr,
               what.c_str());
}

void InstallHandler() {
  struct sigaction action = {};
  action.sa_sigaction = Report;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &before);
}

// The stack of a thread that handlers run on.
class SignalStack {
 public:
  SignalStack() : memory_(new char[kStackBytes]) {
    stack_t stack = {};
    stack.ss_sp = memory_.get();
    stack.ss_size = kStackBytes;
    sigaltstack(&stack, &before_);
  }
  ~SignalStack() { sigaltstack(&before_, nullptr); }
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;

 private:
  std::unique_ptr<char[]> memory_;
  stack_t before_ = {};
};

}  // namespace

void ReportFaults() {
  static const bool installed = (InstallHandler(), true);
  static_cast<void>(installed);
  thread_local const SignalStack stack;
}

}  // namespace entrain::emulated
