#include "parallel/comm/device_collectives.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "parallel/comm/communicator_staged.h"
#include "runtime/base/check.h"
#include "runtime/base/status.h"
#include "runtime/device/device_facts.h"
#ifdef ENTRAIN_NCCL
#include "parallel/comm/communicator_nccl.h"
#endif

namespace entrain {
namespace {

// The one place where it is asked whether NCCL is built in.
#ifdef ENTRAIN_NCCL
absl::StatusOr<std::string> VersionHere() { return NcclVersion(); }
std::string SettingsHere(bool deterministic) { return NcclSettings(deterministic); }

DeviceCollectives ByNccl(Context& context, Communicator& world,
                         const DeviceCollectivesOptions& options) {
  DeviceCollectives result{.nccl = true,
                           .backend = absl::StrCat("NCCL ", NcclVersion().value()),
                           .settings = SetUpNccl(options.deterministic)};
  auto engine = MakeNcclEngine(context, world, options.timeouts);
  result.over = [engine](Communicator& host) { return MakeNcclCommunicator(engine, host); };
  return result;
}
#else
absl::StatusOr<std::string> VersionHere() {
  return absl::FailedPreconditionError("this program was built without NCCL");
}
std::string SettingsHere(bool /*deterministic*/) { return ""; }

DeviceCollectives ByNccl(Context& /*context*/, Communicator& /*world*/,
                         const DeviceCollectivesOptions& /*options*/) {
  CHECK(false) << "no NCCL in this build";
  return {};
}
#endif

DeviceCollectives ThroughHostMemory(Context& context, std::string why) {
  return {.backend = "through host memory",
          .why = std::move(why),
          .over = [&context](Communicator& host) { return MakeStagedCommunicator(context, host); }};
}

NcclOfRanks AskRanks(Context& context, Communicator& world, bool deterministic) {
  const absl::StatusOr<std::string> version = VersionHere();
  return {.versions = world.GatherText(version.value_or(""), "versions of NCCL"),
          .lacks = world.GatherText(std::string(version.status().message()), "who has NCCL"),
          .devices = world.GatherText(FactsOf(context).identity, "GPUs of ranks"),
          .settings = world.GatherText(SettingsHere(deterministic), "settings of NCCL")};
}

}  // namespace

std::string WhyNotNccl(const NcclOfRanks& ranks) {
  const auto& [versions, lacks, devices, settings] = ranks;
  for (size_t r = 0; r < versions.size(); ++r) {
    if (!lacks[r].empty()) {
      const bool is_same = std::count(lacks.begin(), lacks.end(), lacks[r]) ==
                           static_cast<std::ptrdiff_t>(lacks.size());
      return is_same ? lacks[r] : absl::StrCat("rank ", r, ": ", lacks[r]);
    }
    if (versions[r] != versions[0]) {
      return absl::StrCat("rank 0 has NCCL ", versions[0], " and rank ", r, " NCCL ", versions[r]);
    }
    const auto first = std::find(devices.begin(), devices.end(), devices[r]) - devices.begin();
    if (first != static_cast<std::ptrdiff_t>(r)) {
      return absl::StrCat("ranks ", first, " and ", r, " share one GPU, which NCCL does not allow");
    }
    if (settings[r] != settings[0]) {
      return absl::StrCat("rank 0 has ", settings[0], " and rank ", r, " ", settings[r],
                          ": give all hosts the same variables of NCCL (mpirun -x NAME)");
    }
  }
  return "";
}

DeviceCollectives ChooseDeviceCollectives(Context& context, Communicator& world,
                                          const DeviceCollectivesOptions& options) {
  if (context.device() == DeviceKind::kCpu) return {.backend = "host memory"};
  if (world.size() == 1) return ThroughHostMemory(context, "there is one rank");
  if (!options.nccl) return ThroughHostMemory(context, "as configured");
  const std::string why = WhyNotNccl(AskRanks(context, world, options.deterministic));
  if (!why.empty()) return ThroughHostMemory(context, why);
  return ByNccl(context, world, options);
}

}  // namespace entrain
