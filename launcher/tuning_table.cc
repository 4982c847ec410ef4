#include "launcher/tuning_table.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "runtime/io/checksum.h"

namespace entrain {
namespace {

constexpr const char* kFormat = "entrain tuning 2";
constexpr const char* kChecksum = "checksum ";
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

std::string ChecksumOfText(const std::string& text) {
  return ChecksumOf(text.data(), static_cast<int64_t>(text.size()));
}

// Takes the last line, the checksum of those before, off the text.
absl::Status TakeChecksum(std::string* text) {
  const size_t before = text->size() < 2 ? std::string::npos : text->rfind('\n', text->size() - 2);
  const size_t last = before == std::string::npos ? 0 : before + 1;
  std::string recorded = text->substr(last);
  if (recorded.rfind(kChecksum, 0) != 0 || recorded.back() != '\n') {
    return absl::InvalidArgumentError("it was cut off: its last line is not its checksum");
  }
  recorded.pop_back();
  recorded.erase(0, std::string(kChecksum).size());
  text->erase(last);
  const std::string found = ChecksumOfText(*text);
  if (found == recorded) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("it was changed or damaged: the checksum of its lines is ", found,
                   ", its last line says ", recorded));
}

// Of the products' first line, where it is attention's.
absl::Status TakeAttention(TuningTable* table) {
  if (table->products.rfind(kAttention, 0) != 0) return absl::OkStatus();
  const std::string line = table->products.substr(0, table->products.find('\n'));
  table->attention = ParseLine(line);
  if (!table->attention) {
    return absl::InvalidArgumentError(
        absl::StrCat("line 2 describes no measurement of attention: ", line));
  }
  table->products.erase(0, line.size() + 1);
  ++table->first_product_line;
  return absl::OkStatus();
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
  std::string text =
      absl::StrCat(kFormat, "\n", table.attention ? LineOf(*table.attention) : "", table.products);
  absl::StrAppend(&text, kChecksum, ChecksumOfText(text), "\n");
  return text;
}

absl::StatusOr<TuningTable> ParseTuningTable(const std::string& text) {
  const std::string first = text.substr(0, text.find('\n'));
  if (first != kFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat("not a table of measurements of this version (\"", kFormat, "\")"));
  }
  std::string checked = text;
  RETURN_IF_ERROR(TakeChecksum(&checked));
  TuningTable table;
  table.products = checked.substr(first.size() + 1);
  table.first_product_line = 2;
  RETURN_IF_ERROR(TakeAttention(&table));
  if (!table.Place().empty()) return table;
  return absl::InvalidArgumentError(
      absl::StrCat("line ", table.first_product_line + 1, " names no GPU"));
}

}  // namespace entrain
