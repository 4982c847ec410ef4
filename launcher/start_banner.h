// What a run prints before its first step, and all that a dry run prints.
#ifndef ENTRAIN_LAUNCHER_START_BANNER_H_
#define ENTRAIN_LAUNCHER_START_BANNER_H_

#include <string>
#include <vector>

#include "launcher/communication_plan.h"
#include "launcher/memory_plan.h"
#include "launcher/step_graph.h"
#include "launcher/thread_plan.h"
#include "parallel/comm/device_collectives.h"

namespace entrain {

struct BannerFacts {
  const TrainConfig& config;
  const Model& model;
  std::string device;
  const DeviceCollectives& collectives;
  StepGraphChoice graph;
  std::string attention;  // whose, and why; "": on the CPU
  std::string tuning;     // by which table; "": none
  ThreadPlan threads;
  MeshShape mesh;
  std::string launcher;
  std::string backend;
  MemoryPlan memory;  // of one rank
  CommunicationPlan communication;
  int64_t available_memory = -1;
  const TokenDataset& train_data;
  const TokenDataset* validation_data = nullptr;
  std::string resumed_from;  // "": a fresh start
  std::vector<std::string> notices;
};

// Lines, the last one ended.
std::string StartBanner(const BannerFacts& facts);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_START_BANNER_H_
