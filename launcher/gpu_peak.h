// What the devices of a run's ranks are: who shares one, and what all GPUs can do at most, of which MFU is a share.
#ifndef ENTRAIN_LAUNCHER_GPU_PEAK_H_
#define ENTRAIN_LAUNCHER_GPU_PEAK_H_

#include <vector>

#include "parallel/comm/communicator.h"
#include "runtime/device/context.h"
#include "runtime/device/device_facts.h"

namespace entrain {

// The devices of the ranks of `world`, in their order: collective, and the same on all of them. Limits: of bf16 alone.
std::vector<DeviceFacts> FactsOfRanks(const Context& context, Communicator& world);

// Dense bf16 operations a second of the ranks' GPUs together, as the data sheets have them: one that ranks share counts once. 0
// on the CPU, and where the peak of a GPU is not known.
double SumOfPeaks(const std::vector<DeviceFacts>& of_ranks);

// How many of the ranks compute on rank `rank`'s GPU, or on the CPU of its host, and take memory there.
int RanksOnDevice(const std::vector<DeviceFacts>& of_ranks, int rank);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_GPU_PEAK_H_
