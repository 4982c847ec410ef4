#include "runtime/data/merge_table.h"

#include <algorithm>
#include <bit>
#include <queue>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

// A word up to this length is merged by scanning: no heap beats a scan of one or two cache lines.
constexpr size_t kShortWord = 64;

// GPT-2 writes a byte as a printable character: these as themselves, the others, in order, as
// U+0100 and on.
bool PrintsAsItself(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

// All bytes in the order of their ids: first those that print as themselves, then the others.
std::array<uint8_t, MergeTable::kNumBytes> BytesInIdOrder() {
  std::array<uint8_t, MergeTable::kNumBytes> bytes{};
  size_t next = 0;
  for (const bool printable : {true, false}) {
    for (int byte = 0; byte < MergeTable::kNumBytes; ++byte) {
      if (PrintsAsItself(byte) == printable) bytes[next++] = static_cast<uint8_t>(byte);
    }
  }
  return bytes;
}

constexpr int kNumPrintable = 188;
constexpr int kFirstStandIn = 0x100;

// The byte that the character `code_point` stands for, or -1.
int ByteOfCharacter(int code_point) {
  static const std::array<uint8_t, MergeTable::kNumBytes> bytes = BytesInIdOrder();
  if (code_point < MergeTable::kNumBytes) return PrintsAsItself(code_point) ? code_point : -1;
  const int index = kNumPrintable + code_point - kFirstStandIn;
  return index < MergeTable::kNumBytes ? bytes[static_cast<size_t>(index)] : -1;
}

// The bytes that a token of merges.txt stands for; false when a character is not of GPT-2's
// alphabet, all of which are one or two bytes of UTF-8.
bool UnspellToken(std::string_view spelt, std::string* bytes) {
  bytes->clear();
  for (size_t i = 0; i < spelt.size(); ++i) {
    int code_point = static_cast<uint8_t>(spelt[i]);
    if (code_point >= 0x80) {
      if ((code_point & 0xE0) != 0xC0 || i + 1 == spelt.size()) return false;
      const int second = static_cast<uint8_t>(spelt[++i]);
      if ((second & 0xC0) != 0x80) return false;
      code_point = ((code_point & 0x1F) << 6) | (second & 0x3F);
    }
    const int byte = ByteOfCharacter(code_point);
    if (byte < 0) return false;
    bytes->push_back(static_cast<char>(byte));
  }
  return !bytes->empty();
}

// Takes the first line off `text`, without its line end.
std::string_view TakeLine(std::string_view* text) {
  const size_t end = std::min(text->find('\n'), text->size());
  std::string_view line = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

using TokenIds = std::unordered_map<std::string, int32_t>;

struct Merge {
  int32_t left;
  int32_t right;
  std::string bytes;  // what it makes
};

absl::StatusOr<Merge> ParseMerge(std::string_view line, const TokenIds& known) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
    return absl::InvalidArgumentError("expected two tokens with one space between them");
  }
  Merge merge{};
  std::string bytes;
  int32_t* const sides[] = {&merge.left, &merge.right};
  const std::string_view spelt[] = {line.substr(0, space), line.substr(space + 1)};
  for (int side = 0; side < 2; ++side) {
    const auto found = UnspellToken(spelt[side], &bytes) ? known.find(bytes) : known.end();
    if (found == known.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", std::string(spelt[side]),
                       "' is neither a byte in GPT-2's spelling nor made by an earlier line"));
    }
    *sides[side] = found->second;
    merge.bytes += bytes;
  }
  if (known.contains(merge.bytes)) {
    return absl::InvalidArgumentError("an earlier line makes the same token");
  }
  return merge;
}

// A word as a linked list of its tokens, and a heap of the pairs that may merge.
class LongWord {
 public:
  LongWord(const MergeTable& table, std::string_view word) : table_(table) {
    CHECK_LT(word.size(), size_t{1} << 31) << "bytes in one word";
    const auto size = static_cast<int32_t>(word.size());
    nodes_.reserve(word.size());
    for (int32_t i = 0; i < size; ++i) {
      const int32_t id = table.ByteId(static_cast<uint8_t>(word[static_cast<size_t>(i)]));
      nodes_.push_back({id, i - 1, i + 1 == size ? kEnd : i + 1});
    }
    for (int32_t i = 0; i + 1 < size; ++i) PushPair(i);
  }

  void MergeAll() {
    while (!pairs_.empty()) {
      const Pair pair = pairs_.top();
      pairs_.pop();
      if (IsCurrent(pair)) MergeAt(pair);
    }
  }

  void AppendTo(std::vector<int32_t>* ids) const {
    for (int32_t i = 0; i != kEnd; i = At(i).next) ids->push_back(At(i).id);
  }

 private:
  static constexpr int32_t kEnd = -1;

  struct Node {
    int32_t id;
    int32_t previous;
    int32_t next;
  };
  struct Pair {
    int32_t merged;
    int32_t left;
    bool operator>(const Pair& other) const {
      return std::pair(merged, left) > std::pair(other.merged, other.left);
    }
  };

  Node& At(int32_t i) { return nodes_[static_cast<size_t>(i)]; }
  const Node& At(int32_t i) const { return nodes_[static_cast<size_t>(i)]; }

  int32_t MergedAt(int32_t left) const {
    const Node& node = At(left);
    if (node.id < 0 || node.next == kEnd) return MergeTable::kNoMerge;
    return table_.Merged(node.id, At(node.next).id);
  }

  void PushPair(int32_t left) {
    const int32_t merged = MergedAt(left);
    if (merged != MergeTable::kNoMerge) pairs_.push({merged, left});
  }

  // Whether the pair still stands: a node that was swallowed has id -1, one that grew merges to
  // something else.
  bool IsCurrent(const Pair& pair) const { return MergedAt(pair.left) == pair.merged; }

  void MergeAt(const Pair& pair) {
    Node& left = At(pair.left);
    Node& right = At(left.next);
    left.id = pair.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next != kEnd) At(left.next).previous = pair.left;
    PushPair(pair.left);
    if (left.previous != kEnd) PushPair(left.previous);
  }

  const MergeTable& table_;
  std::vector<Node> nodes_;
  std::priority_queue<Pair, std::vector<Pair>, std::greater<>> pairs_;
};

}  // namespace

MergeTable::MergeTable() {
  begin_.push_back(0);
  int32_t id = 0;
  for (const uint8_t byte : BytesInIdOrder()) {
    byte_ids_[byte] = id++;
    const char character = static_cast<char>(byte);
    AddToken(std::string_view(&character, 1));
  }
}

void MergeTable::AddToken(std::string_view bytes) {
  bytes_ += bytes;
  begin_.push_back(bytes_.size());
}

absl::StatusOr<MergeTable> MergeTable::Parse(std::string_view text, const std::string& source) {
  MergeTable table;
  TokenIds known;
  for (int32_t id = 0; id < kNumBytes; ++id) known.emplace(table.Bytes(id), id);
  std::vector<uint64_t> keys;
  for (int64_t number = 1; !text.empty(); ++number) {
    const std::string_view line = TakeLine(&text);
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    absl::StatusOr<Merge> merge = ParseMerge(line, known);
    if (!merge.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": line ", number, " is not a merge: ", merge.status().message()));
    }
    known.emplace(merge->bytes, table.size());
    keys.push_back(PairKey(merge->left, merge->right));
    table.AddToken(merge->bytes);
  }
  if (keys.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": no merges in it; expected a merges.txt in GPT-2's form, two tokens a line"));
  }
  table.BuildSlots(keys);
  return table;
}

void MergeTable::BuildSlots(const std::vector<uint64_t>& keys) {
  slots_.resize(std::bit_ceil(2 * keys.size() + 2));
  shift_ = 64 - std::countr_zero(slots_.size());
  int32_t merged = kNumBytes;
  for (const uint64_t key : keys) {
    size_t slot = SlotOf(key);
    while (slots_[slot].key != kEmpty) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = {key, merged++};
  }
}

void MergeTable::Encode(std::string_view word, std::vector<int32_t>* ids) const {
  if (word.size() <= kShortWord) {
    EncodeShort(word, ids);
  } else {
    EncodeLong(word, ids);
  }
}

void MergeTable::EncodeShort(std::string_view word, std::vector<int32_t>* ids) const {
  if (word.empty()) return;
  std::array<int32_t, kShortWord> tokens;  // NOLINT(cppcoreguidelines-pro-type-member-init): hot
  std::array<int32_t, kShortWord> merged;  // of tokens i and i + 1; kNoMerge at the last
  size_t size = word.size();
  for (size_t i = 0; i < size; ++i) tokens[i] = ByteId(static_cast<uint8_t>(word[i]));
  for (size_t i = 0; i + 1 < size; ++i) merged[i] = Merged(tokens[i], tokens[i + 1]);
  merged[size - 1] = kNoMerge;
  for (;;) {
    const auto* const best = std::min_element(merged.data(), merged.data() + size);
    if (*best == kNoMerge) break;
    const auto i = static_cast<size_t>(best - merged.data());
    tokens[i] = *best;
    std::move(&tokens[i + 1] + 1, tokens.data() + size, &tokens[i + 1]);
    std::move(&merged[i + 1], merged.data() + size, &merged[i]);
    --size;
    if (i + 1 < size) merged[i] = Merged(tokens[i], tokens[i + 1]);
    if (i > 0) merged[i - 1] = Merged(tokens[i - 1], tokens[i]);
  }
  ids->insert(ids->end(), tokens.data(), tokens.data() + size);
}

void MergeTable::EncodeLong(std::string_view word, std::vector<int32_t>* ids) const {
  LongWord long_word(*this, word);
  long_word.MergeAll();
  long_word.AppendTo(ids);
}

}  // namespace entrain
