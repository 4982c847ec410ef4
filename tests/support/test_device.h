// On which device tests of whole models compute: the CPU, or with ENTRAIN_TEST_DEVICE=cuda in the environment the GPU of the
// backend that the program was linked with, a real one or the emulated one.
#ifndef ENTRAIN_TESTS_SUPPORT_TEST_DEVICE_H_
#define ENTRAIN_TESTS_SUPPORT_TEST_DEVICE_H_

#include <cstdlib>
#include <memory>
#include <string_view>

#include "runtime/base/check.h"
#include "runtime/device/context.h"

namespace entrain {

inline bool TestsComputeOnGpu() {
  const char* device = std::getenv("ENTRAIN_TEST_DEVICE");
  return device != nullptr && std::string_view(device) == "cuda";
}

// `rank`: of a test's ranks, which take the GPUs in turn.
inline std::unique_ptr<Context> TestContext(int threads, int rank = 0) {
  auto context = TestsComputeOnGpu()
                     ? Context::CreateCuda(rank % Context::CudaDevices().value_or(1), threads)
                     : Context::CreateCpu(threads);
  CHECK(context.ok()) << context.status().ToString();
  return *std::move(context);
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_TEST_DEVICE_H_
