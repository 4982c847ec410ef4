// What the GPUs of a run can do at most, of which MFU is a share.
#ifndef ENTRAIN_LAUNCHER_GPU_PEAK_H_
#define ENTRAIN_LAUNCHER_GPU_PEAK_H_

#include <vector>

#include "parallel/comm/communicator.h"
#include "runtime/device/context.h"
#include "runtime/device/device_facts.h"

namespace entrain {

// Dense bf16 operations a second of the ranks' GPUs together, as the data sheets have them: one that ranks share counts once. 0
// on the CPU, and where the peak of a GPU is not known.
double SumOfPeaks(const std::vector<DeviceFacts>& of_ranks);

// The same of the ranks of `world`: collective, and the same on all of them.
double PeakOfAllGpus(const Context& context, Communicator& world);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_GPU_PEAK_H_
