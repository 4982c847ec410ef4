// Runs a kernel, a block after another, and tells what runs.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_KERNEL_RUN_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_KERNEL_RUN_H_

#include <string>

#include "tests/support/emulated_gpu/emulated_gpu.h"

namespace entrain::emulated {

// Under the emulator's lock. Ends the process when the kernel is wrong: a deadlock, lanes at different operations, ...
void RunKernel(const KernelLaunch& launch);

// Whether all these bytes are in the shared memory of the block that runs.
bool IsShared(const void* start, size_t bytes);

// Whether some thread's copies to these bytes may not be read by products yet.
bool IsUnpublished(const void* start, size_t bytes);

// Where an address lies that a kernel must not touch, if it has to do with shared memory; else empty.
std::string DescribeShared(const void* address);

// "kernel Name, block (0, 0, 0), thread (0, 0, 0)", of what runs now; empty when no kernel does.
std::string WhereInKernel();

// Ends the process, with WhereInKernel().
[[noreturn]] void FailKernel(const std::string& what);

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_KERNEL_RUN_H_
