// What computes a run: its checkpoints name it, since bits repeat themselves on the same device and libraries alone.
#ifndef ENTRAIN_LAUNCHER_COMPUTED_BY_H_
#define ENTRAIN_LAUNCHER_COMPUTED_BY_H_

#include <string>
#include <vector>

#include "launcher/run_device.h"
#include "parallel/checkpoint.h"
#include "parallel/comm/communicator.h"

namespace entrain {

// What all ranks of `world` compute with, as they have been told by now: collective, and the same on every rank.
ComputedBy WhatComputes(const RunDevice& device, Communicator& world);

// What of a checkpoint's is not that of the run which continues from it, in a line; "" when nothing is, as far as the checkpoint
// says.
std::string ComputedOtherwise(const ComputedBy& saved, const ComputedBy& now);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_COMPUTED_BY_H_
