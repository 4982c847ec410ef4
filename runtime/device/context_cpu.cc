#include <omp.h>

#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/device/context.h"
#include "runtime/device/processor.h"

namespace entrain {
namespace {

std::string CpuModelName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown CPU";
}

absl::Status NoCuda() {
  return absl::FailedPreconditionError(
      "this build has no CUDA backend; ./run build --cuda makes one that has");
}

}  // namespace

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

void UseThreads(int num_threads) {
  omp_set_dynamic(0);
  omp_set_num_threads(num_threads);
}

namespace cpu {

absl::StatusOr<int> CountCudaDevices() { return NoCuda(); }

absl::StatusOr<std::shared_ptr<const CudaDevice>> OpenCudaDevice(int /*ordinal*/) {
  return NoCuda();
}

std::string Describe(const Context& context) {
  const int threads = context.num_threads();
  std::string text =
      absl::StrCat(CpuModelName(), ", ", threads, threads == 1 ? " thread" : " threads");
#ifdef __AVX512BF16__
  absl::StrAppend(&text, ", avx512 with bf16");
#elif defined(__AVX512F__)
  absl::StrAppend(&text, ", avx512");
#elif defined(__AVX2__)
  absl::StrAppend(&text, ", avx2");
#endif
  return text;
}

}  // namespace cpu
}  // namespace entrain
