#include "launcher/gpu_peak.h"

#include <algorithm>
#include <map>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace entrain {

double SumOfPeaks(const std::vector<DeviceFacts>& of_ranks) {
  std::map<std::string, double> peaks;
  for (const DeviceFacts& facts : of_ranks) peaks[facts.identity] = facts.limits.bf16_flops;
  double sum = 0.0;
  for (const auto& [gpu, peak] : peaks) {
    if (peak <= 0.0) return 0.0;
    sum += peak;
  }
  return sum;
}

std::vector<DeviceFacts> FactsOfRanks(const Context& context, Communicator& world) {
  const DeviceFacts mine = FactsOf(context);
  const std::vector<std::string> identities = world.GatherText(mine.identity, "devices of ranks");
  const std::vector<std::string> peaks =
      world.GatherText(absl::StrCat(mine.limits.bf16_flops), "peaks of GPUs");
  std::vector<DeviceFacts> of_ranks(identities.size());
  for (size_t r = 0; r < identities.size(); ++r) {
    of_ranks[r].identity = identities[r];
    CHECK(absl::SimpleAtod(peaks[r], &of_ranks[r].limits.bf16_flops));
  }
  return of_ranks;
}

int RanksOnDevice(const std::vector<DeviceFacts>& of_ranks, int rank) {
  const std::string& mine = of_ranks[static_cast<size_t>(rank)].identity;
  return static_cast<int>(
      std::count_if(of_ranks.begin(), of_ranks.end(),
                    [&](const DeviceFacts& facts) { return facts.identity == mine; }));
}

}  // namespace entrain
