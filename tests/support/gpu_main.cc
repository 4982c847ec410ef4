// Main of tests that are run again with the models on a GPU. Without one it leaves with 77, which CTest takes for "skipped".
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "runtime/device/context.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const auto devices = entrain::Context::CudaDevices();
  if (!devices.ok()) {
    std::printf("all tests: Skipped\nno GPU: %s\n",
                std::string(devices.status().message()).c_str());
    return 77;
  }
  // TestContext and RunEntrain look there.
  setenv("ENTRAIN_TEST_DEVICE", "cuda", 1);
#ifdef ENTRAIN_GPU_BINARY
  setenv("ENTRAIN_TEST_BINARY", ENTRAIN_GPU_BINARY, 0);
#endif
  return RUN_ALL_TESTS();
}
