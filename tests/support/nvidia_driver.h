// Whether this machine has an NVIDIA driver: what a program says without one can be tested only where there is none.
#ifndef ENTRAIN_TESTS_SUPPORT_NVIDIA_DRIVER_H_
#define ENTRAIN_TESTS_SUPPORT_NVIDIA_DRIVER_H_

#include <dlfcn.h>

namespace entrain {

inline bool HasNvidiaDriver() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY);
  if (driver != nullptr) dlclose(driver);
  return driver != nullptr;
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_NVIDIA_DRIVER_H_
