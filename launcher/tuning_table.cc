#include "launcher/tuning_table.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace entrain {
namespace {

constexpr const char* kFormat = "entrain tuning 1";
constexpr const char* kAttention = "attention";
constexpr const char* kEntrain = "entrain";
constexpr const char* kCudnn = "cudnn";

std::string LineOf(const MeasuredAttention& m) {
  const AttentionWork& w = m.work;
  return absl::StrFormat("%s %d %d %d %d %s %s %s %.4f %.4f %s\n", kAttention, w.batch, w.positions,
                         w.heads, w.width, std::string(kDTypeNames.Name(w.dtype)),
                         std::string(kEntropyGradientNames.Name(w.entropy_gradient)),
                         m.cudnn ? kCudnn : kEntrain, m.times.entrain_ms, m.times.cudnn_ms, m.name);
}

std::optional<MeasuredAttention> ParseLine(const std::string& line) {
  constexpr size_t kWords = 11;
  const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', kWords - 1));
  if (words.size() != kWords) return std::nullopt;
  MeasuredAttention m;
  AttentionWork& w = m.work;
  int64_t* const sizes[] = {&w.batch, &w.positions, &w.heads, &w.width};
  for (size_t i = 0; i < std::size(sizes); ++i) {
    if (!absl::SimpleAtoi(words[i + 1], sizes[i])) return std::nullopt;
  }
  const auto dtype = kDTypeNames.Find(words[5]);
  const auto gradient = kEntropyGradientNames.Find(words[6]);
  if (!dtype || !gradient) return std::nullopt;
  w.dtype = *dtype;
  w.entropy_gradient = *gradient;
  m.cudnn = words[7] == kCudnn;
  if (!m.cudnn && words[7] != kEntrain) return std::nullopt;
  if (!absl::SimpleAtod(words[8], &m.times.entrain_ms) ||
      !absl::SimpleAtod(words[9], &m.times.cudnn_ms)) {
    return std::nullopt;
  }
  m.name = words[10];
  return m;
}

}  // namespace

std::string TuningTable::Place() const {
  const std::vector<std::string> lines = absl::StrSplit(products, '\n');
  return lines.size() < 2 ? "" : lines[1];
}

int TuningTable::NumProducts() const {
  const std::vector<std::string> lines = absl::StrSplit(products, '\n', absl::SkipEmpty());
  return static_cast<int>(lines.size()) - 2;
}

std::string ToText(const TuningTable& table) {
  return absl::StrCat(kFormat, "\n", table.attention ? LineOf(*table.attention) : "",
                      table.products);
}

absl::StatusOr<TuningTable> ParseTuningTable(const std::string& text) {
  const std::string first = text.substr(0, text.find('\n'));
  if (first != kFormat || first.size() == text.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat("not a table of measurements of this version (\"", kFormat, "\")"));
  }
  TuningTable table;
  table.products = text.substr(first.size() + 1);
  table.first_product_line = 2;
  if (table.products.rfind(kAttention, 0) != 0) return table;
  const std::string line = table.products.substr(0, table.products.find('\n'));
  table.attention = ParseLine(line);
  if (!table.attention || line.size() == table.products.size()) {
    return absl::InvalidArgumentError(absl::StrCat("line 2: ", line));
  }
  table.products.erase(0, line.size() + 1);
  ++table.first_product_line;
  return table;
}

}  // namespace entrain
