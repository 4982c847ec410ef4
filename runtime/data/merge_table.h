// MergeTable: the vocabulary and the merges of a byte-level byte-pair encoding, read from a
// merges.txt.
#ifndef ENTRAIN_RUNTIME_DATA_MERGE_TABLE_H_
#define ENTRAIN_RUNTIME_DATA_MERGE_TABLE_H_

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace entrain {

// Ids: 0..255 the bytes, in GPT-2's order (33-126, 161-172, 174-255, then 0-32, 127-160, 173); 256
// + i what merge i makes. An earlier merge goes first, so the id of what a merge makes is also its
// priority.
class MergeTable {
 public:
  static constexpr int32_t kNumBytes = 256;
  static constexpr int32_t kNoMerge = std::numeric_limits<int32_t>::max();

  // `text`: the contents of a merges.txt: an optional "#version" line, then two tokens a line in
  // GPT-2's spelling of bytes as printable characters. `source` stands for it in messages.
  // InvalidArgument names the line and what is wrong with it.
  static absl::StatusOr<MergeTable> Parse(std::string_view text, const std::string& source);

  int32_t size() const { return static_cast<int32_t>(begin_.size()) - 1; }
  int32_t ByteId(uint8_t byte) const { return byte_ids_[byte]; }
  // The bytes that token `id` stands for.
  std::string_view Bytes(int32_t id) const {
    const auto index = static_cast<size_t>(id);
    return std::string_view(bytes_).substr(begin_[index], begin_[index + 1] - begin_[index]);
  }
  // The token that the pair merges to, or kNoMerge.
  int32_t Merged(int32_t left, int32_t right) const {
    const uint64_t key = PairKey(left, right);
    size_t slot = SlotOf(key);
    while (slots_[slot].key != key) {
      if (slots_[slot].key == kEmpty) return kNoMerge;
      slot = (slot + 1) & (slots_.size() - 1);
    }
    return slots_[slot].merged;
  }
  // Appends the tokens of one word: the pair of least id merges first, the leftmost of equals
  // first, until none merges. O(n log n) for long words.
  void Encode(std::string_view word, std::vector<int32_t>* ids) const;

 private:
  struct Slot {
    uint64_t key = kEmpty;
    int32_t merged = kNoMerge;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};

  MergeTable();
  static uint64_t PairKey(int32_t left, int32_t right) {
    return (static_cast<uint64_t>(left) << 32) | static_cast<uint32_t>(right);
  }
  size_t SlotOf(uint64_t key) const { return (key * 0x9E3779B97F4A7C15U) >> shift_; }
  void AddToken(std::string_view bytes);
  void BuildSlots(const std::vector<uint64_t>& keys);
  void EncodeShort(std::string_view word, std::vector<int32_t>* ids) const;
  void EncodeLong(std::string_view word, std::vector<int32_t>* ids) const;

  std::array<int32_t, kNumBytes> byte_ids_{};
  std::string bytes_;          // of all tokens, one after another
  std::vector<size_t> begin_;  // [size + 1], where each begins in bytes_
  std::vector<Slot> slots_;    // open addressing; a power of two, at most half full
  int shift_ = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_MERGE_TABLE_H_
