#include "launcher/computed_by.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "runtime/kernels/compute_libraries.h"

namespace entrain {
namespace {

// Ranks mostly have the same: each text that there is once, in the order of ranks.
std::string OfRanks(Communicator& world, const std::string& mine, const char* what) {
  std::vector<std::string> texts;
  for (const std::string& text : world.GatherText(mine, what)) {
    if (std::find(texts.begin(), texts.end(), text) == texts.end()) texts.push_back(text);
  }
  return absl::StrJoin(texts, " and ");
}

// Where a setting comes from changes no bit.
std::string Collectives(const DeviceCollectives& collectives) {
  if (collectives.settings.empty()) return collectives.backend;
  return absl::StrCat(collectives.backend, ", ",
                      absl::StrReplaceAll(collectives.settings, {{" (from the environment)", ""}}));
}

}  // namespace

ComputedBy WhatComputes(const RunDevice& device, Communicator& world) {
  Context& context = *device.context;
  return {.program = "entrain " ENTRAIN_VERSION,
          .device = OfRanks(world, context.Description(), "devices of ranks"),
          .libraries = OfRanks(world, ComputeLibraries(context), "libraries of ranks"),
          .collectives = world.size() == 1 ? "" : Collectives(device.collectives)};
}

std::string ComputedOtherwise(const ComputedBy& saved, const ComputedBy& now) {
  std::vector<std::string> changes;
  const auto compare = [&](const char* what, const std::string& before, const std::string& after) {
    // Of what there was nothing, or nobody wrote down, nothing is known to have changed.
    if (before.empty() || after.empty() || before == after) return;
    changes.push_back(absl::StrCat(what, " ", before, " -> ", after));
  };
  compare("program", saved.program, now.program);
  compare("device", saved.device, now.device);
  compare("libraries", saved.libraries, now.libraries);
  compare("collectives", saved.collectives, now.collectives);
  if (changes.empty()) return "";
  return absl::StrCat("computed otherwise than the checkpoint: ", absl::StrJoin(changes, "; "),
                      ". From here on last bits may differ from those of a run that was never "
                      "interrupted");
}

}  // namespace entrain
