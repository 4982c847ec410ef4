#include "runtime/data/utf8.h"

#include <cstdint>
#include <cstring>

namespace entrain {
namespace {

bool AllAscii(const char* eight_bytes) {
  uint64_t word = 0;
  std::memcpy(&word, eight_bytes, sizeof(word));
  return (word & 0x8080808080808080U) == 0;
}

// The least and greatest second byte that may follow `lead`, and the length of the sequence; length
// 0: not a lead byte.
struct SequenceForm {
  size_t length;
  uint8_t second_min;
  uint8_t second_max;
};

SequenceForm FormOf(uint8_t lead) {
  if (lead >= 0xC2 && lead <= 0xDF) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead >= 0xE1 && lead <= 0xEF) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  if (lead >= 0xF1 && lead <= 0xF3) return {4, 0x80, 0xBF};
  return {0, 0, 0};
}

// Length of the well-formed sequence of two bytes or more at the start of `text`, or 0.
size_t MultibyteLength(std::string_view text) {
  const SequenceForm form = FormOf(static_cast<uint8_t>(text[0]));
  if (form.length == 0 || text.size() < form.length) return 0;
  const auto second = static_cast<uint8_t>(text[1]);
  if (second < form.second_min || second > form.second_max) return 0;
  for (size_t i = 2; i < form.length; ++i) {
    if ((static_cast<uint8_t>(text[i]) & 0xC0) != 0x80) return 0;
  }
  return form.length;
}

}  // namespace

size_t ValidUtf8Prefix(std::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    if (position + 8 <= text.size() && AllAscii(text.data() + position)) {
      position += 8;
    } else if (static_cast<uint8_t>(text[position]) < 0x80) {
      ++position;
    } else {
      const size_t length = MultibyteLength(text.substr(position));
      if (length == 0) break;
      position += length;
    }
  }
  return position;
}

}  // namespace entrain
