#include "launcher/entropy_table.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace entrain {
namespace {

constexpr size_t kBarColumns = 40;

std::string BucketLines(const HeadTable& mean_entropy, int64_t context) {
  constexpr const char* kNotes[] = {"  (collapse)", "", "", "  (overload)"};
  const auto shares = BucketShares(mean_entropy, context);
  const double quarter = MaxCausalMeanEntropy(context) / 4.0;
  std::string text;
  for (size_t i = 0; i < shares.size(); ++i) {
    const auto filled = static_cast<size_t>(std::lround(shares[i] * kBarColumns));
    absl::StrAppendFormat(&text, "  %5.2f .. %5.2f  %3.0f %%  %s%s%s\n",
                          quarter * static_cast<double>(i), quarter * static_cast<double>(i + 1),
                          100.0 * shares[i], std::string(filled, '#'),
                          std::string(kBarColumns - filled, '.'), kNotes[i]);
  }
  return text;
}

}  // namespace

std::string EntropyTable(const HeadTable& mean_entropy, int64_t context) {
  std::string text = "head entropy, nats (rows: layers, columns: heads; last: the layer's mean)\n";
  const std::vector<double> means = LayerMeans(mean_entropy);
  for (size_t l = 0; l < mean_entropy.size(); ++l) {
    absl::StrAppendFormat(&text, "  %3d ", static_cast<int>(l));
    for (const double value : mean_entropy[l]) absl::StrAppendFormat(&text, " %5.2f", value);
    absl::StrAppendFormat(&text, "  | %5.2f\n", means[l]);
  }
  absl::StrAppendFormat(&text, "share of heads by mean entropy, of at most %.2f for context %d\n",
                        MaxCausalMeanEntropy(context), static_cast<int>(context));
  return text + BucketLines(mean_entropy, context);
}

}  // namespace entrain
