// The processor that host code runs on.
#ifndef ENTRAIN_RUNTIME_DEVICE_PROCESSOR_H_
#define ENTRAIN_RUNTIME_DEVICE_PROCESSOR_H_

#include "runtime/base/status.h"

namespace entrain {

// The binary is compiled for one instruction set; on a lesser CPU it would end in SIGILL without a word.
absl::Status CheckInstructionSet();

// How many threads parallel regions take from now on.
void UseThreads(int num_threads);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_PROCESSOR_H_
