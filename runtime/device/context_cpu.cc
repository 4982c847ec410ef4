#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/device/context.h"

namespace entrain {
namespace {

constexpr int kMaxThreads = 1024;

std::string CpuModelName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown CPU";
}

// The binary is compiled for one instruction set; on a lesser CPU it would end in SIGILL without a word.
absl::Status CheckInstructionSet() {
  __builtin_cpu_init();
#ifdef __AVX512F__
  if (!__builtin_cpu_supports("avx512f")) {
    return absl::FailedPreconditionError(
        "this binary was built for AVX-512 (-march=" ENTRAIN_ARCH
        "), which this CPU lacks; rebuild it here, or with -DENTRAIN_ARCH=x86-64-v3");
  }
#endif
#ifdef __AVX2__
  if (!__builtin_cpu_supports("avx2")) {
    return absl::FailedPreconditionError(
        "this binary was built for AVX2 (-march=" ENTRAIN_ARCH
        "), which this CPU lacks; rebuild it here, or with -DENTRAIN_ARCH=x86-64");
  }
#endif
  return absl::OkStatus();
}

}  // namespace

int Context::AllowedCores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return CPU_COUNT(&set);
}

absl::StatusOr<std::unique_ptr<Context>> Context::CreateCpu(int num_threads) {
  RETURN_IF_ERROR(CheckInstructionSet());
  if (num_threads < 0 || num_threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads = ", num_threads, " is not in 0 .. ", kMaxThreads));
  }
  if (num_threads == 0) num_threads = AllowedCores();
  omp_set_dynamic(0);
  omp_set_num_threads(num_threads);
  return std::unique_ptr<Context>(new Context(num_threads));
}

std::string Context::Description() const {
  std::string text =
      absl::StrCat(CpuModelName(), ", ", num_threads_, num_threads_ == 1 ? " thread" : " threads");
#ifdef __AVX512BF16__
  absl::StrAppend(&text, ", avx512 with bf16");
#elif defined(__AVX512F__)
  absl::StrAppend(&text, ", avx512");
#elif defined(__AVX2__)
  absl::StrAppend(&text, ", avx2");
#endif
  return text;
}

}  // namespace entrain
