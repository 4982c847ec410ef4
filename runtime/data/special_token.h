// The special token <|endoftext|>, and what both tokenizers do with it.
#ifndef ENTRAIN_RUNTIME_DATA_SPECIAL_TOKEN_H_
#define ENTRAIN_RUNTIME_DATA_SPECIAL_TOKEN_H_

#include <cstdint>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace entrain {

inline constexpr std::string_view kEndOfText = "<|endoftext|>";

// Calls on_text(part) for each stretch of `text` between special tokens and on_special() for each
// of those, in order.
template <typename OnText, typename OnSpecial>
void ForEachSpecialSplit(std::string_view text, OnText&& on_text, OnSpecial&& on_special) {
  size_t found = text.find(kEndOfText);
  while (found != std::string_view::npos) {
    on_text(text.substr(0, found));
    on_special();
    text.remove_prefix(found + kEndOfText.size());
    found = text.find(kEndOfText);
  }
  on_text(text);
}

// OutOfRange unless 0 ≤ id < vocab_size.
inline absl::Status CheckTokenInVocab(int32_t id, int32_t vocab_size) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return absl::OutOfRangeError(
      absl::StrCat("token ", id, " is not in the vocabulary: ids are 0 to ", vocab_size - 1));
}

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_SPECIAL_TOKEN_H_
