#include "launcher/gpu_peak.h"

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

double PeakOfAllGpus(const Context& context, Communicator& world) {
  const DeviceFacts mine = FactsOf(context);
  const std::vector<std::string> gpus = world.GatherText(mine.identity, "GPUs of ranks");
  const std::vector<std::string> peaks =
      world.GatherText(absl::StrCat(mine.limits.bf16_flops), "peaks of GPUs");
  std::vector<DeviceFacts> of_ranks(gpus.size());
  for (size_t r = 0; r < gpus.size(); ++r) {
    of_ranks[r].identity = gpus[r];
    CHECK(absl::SimpleAtod(peaks[r], &of_ranks[r].limits.bf16_flops));
  }
  return SumOfPeaks(of_ranks);
}

}  // namespace entrain
