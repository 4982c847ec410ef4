// Memory that this process could still take.
#ifndef ENTRAIN_LAUNCHER_FREE_MEMORY_H_
#define ENTRAIN_LAUNCHER_FREE_MEMORY_H_

#include <cstdint>

namespace entrain {

// Bytes: the kernel's MemAvailable or, if less, what the control group leaves. −1 when unknown.
int64_t AvailableMemory();

// Peak resident memory of this process so far, in bytes (VmHWM). −1 when unknown.
int64_t PeakMemory();

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_FREE_MEMORY_H_
