#include "parallel/comm/device_collectives.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/comm/communicator_staged.h"
#include "runtime/base/check.h"
#ifdef ENTRAIN_NCCL
#include "parallel/comm/communicator_nccl.h"
#endif

namespace entrain {
namespace {

// The one place where it is asked whether NCCL is built in.
#ifdef ENTRAIN_NCCL
std::string VersionHere() { return NcclVersion(); }
std::string DeviceHere(const Context& context) { return NcclDevice(context); }

DeviceCollectives ByNccl(Context& context, Communicator& world,
                         const DeviceCollectivesOptions& options) {
  DeviceCollectives result{.backend = absl::StrCat("NCCL ", NcclVersion()),
                           .settings = SetUpNccl(options.deterministic)};
  auto engine = MakeNcclEngine(context, world, options.timeouts);
  result.over = [engine](Communicator& host) { return MakeNcclCommunicator(engine, host); };
  return result;
}
#else
std::string VersionHere() { return ""; }
std::string DeviceHere(const Context& /*context*/) { return ""; }

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

// Why NCCL cannot connect ranks with these versions of it ("": none) and devices, or "".
std::string WhyNotNccl(const std::vector<std::string>& versions,
                       const std::vector<std::string>& devices) {
  for (size_t r = 0; r < versions.size(); ++r) {
    if (versions[r].empty()) {
      const bool is_same = std::count(versions.begin(), versions.end(), "") ==
                           static_cast<std::ptrdiff_t>(versions.size());
      return absl::StrCat(is_same ? "this program" : absl::StrCat("that of rank ", r),
                          " was built without NCCL");
    }
    if (versions[r] != versions[0]) {
      return absl::StrCat("rank 0 has NCCL ", versions[0], " and rank ", r, " NCCL ", versions[r]);
    }
    const auto first = std::find(devices.begin(), devices.end(), devices[r]) - devices.begin();
    if (first != static_cast<std::ptrdiff_t>(r)) {
      return absl::StrCat("ranks ", first, " and ", r, " share one GPU, which NCCL does not allow");
    }
  }
  return "";
}

}  // namespace

DeviceCollectives ChooseDeviceCollectives(Context& context, Communicator& world,
                                          const DeviceCollectivesOptions& options) {
  if (context.device() == DeviceKind::kCpu) return {.backend = "host memory"};
  if (world.size() == 1) return ThroughHostMemory(context, "there is one rank");
  const std::vector<std::string> versions = world.GatherText(VersionHere(), "versions of NCCL");
  const std::vector<std::string> devices = world.GatherText(DeviceHere(context), "GPUs of ranks");
  if (!options.nccl) return ThroughHostMemory(context, "as configured");
  const std::string why = WhyNotNccl(versions, devices);
  if (!why.empty()) return ThroughHostMemory(context, why);
  return ByNccl(context, world, options);
}

}  // namespace entrain
