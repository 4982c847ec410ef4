// WordCache: the tokens of words met before.
#ifndef ENTRAIN_RUNTIME_DATA_WORD_CACHE_H_
#define ENTRAIN_RUNTIME_DATA_WORD_CACHE_H_

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace entrain {

// A table of fixed size (8 MiB) in which a word has one place and a newer word replaces an older
// one: text repeats its words so much that nothing cleverer pays, and memory cannot grow.
class WordCache {
 public:
  static constexpr size_t kMaxBytes = 30;
  static constexpr size_t kMaxTokens = 24;

  WordCache() : slots_(kNumSlots) {}

  // Appends the tokens of `word` when they are known.
  bool Find(std::string_view word, std::vector<int32_t>* ids) const {
    if (word.size() > kMaxBytes) return false;
    const Slot& slot = slots_[SlotOf(word)];
    if (slot.num_bytes != word.size() || slot.num_tokens == 0 ||
        std::memcmp(slot.bytes.data(), word.data(), word.size()) != 0) {
      return false;
    }
    ids->insert(ids->end(), slot.tokens.data(), slot.tokens.data() + slot.num_tokens);
    return true;
  }

  // Remembers `tokens` of `word`; a word that is too long is passed over.
  void Insert(std::string_view word, std::span<const int32_t> tokens) {
    if (word.size() > kMaxBytes || tokens.size() > kMaxTokens) return;
    Slot& slot = slots_[SlotOf(word)];
    slot.num_bytes = static_cast<uint8_t>(word.size());
    slot.num_tokens = static_cast<uint8_t>(tokens.size());
    std::copy(word.begin(), word.end(), slot.bytes.begin());
    std::copy(tokens.begin(), tokens.end(), slot.tokens.begin());
  }

 private:
  static constexpr size_t kNumSlots = size_t{1} << 16;

  // Two cache lines, the second touched only by words of many tokens (white space, mostly).
  struct alignas(64) Slot {
    uint8_t num_bytes = 0;
    uint8_t num_tokens = 0;  // 0: empty
    std::array<char, kMaxBytes> bytes{};
    std::array<int32_t, kMaxTokens> tokens{};
  };

  static size_t SlotOf(std::string_view word) {
    return XXH3_64bits(word.data(), word.size()) & (kNumSlots - 1);
  }

  std::vector<Slot> slots_;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_WORD_CACHE_H_
