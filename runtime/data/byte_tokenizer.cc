#include "runtime/data/byte_tokenizer.h"

#include "runtime/data/special_token.h"

namespace entrain {

void ByteTokenizer::Encode(std::string_view text, std::vector<int32_t>* ids) {
  for (const char byte : text) ids->push_back(static_cast<uint8_t>(byte));
}

void ByteTokenizer::EncodeWithSpecial(std::string_view text, std::vector<int32_t>* ids) {
  ForEachSpecialSplit(
      text, [&](std::string_view part) { Encode(part, ids); },
      [&] { ids->push_back(end_of_text()); });
}

absl::StatusOr<std::string> ByteTokenizer::Decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    RETURN_IF_ERROR(CheckTokenInVocab(id, vocab_size()));
    if (id == end_of_text()) {
      text += kEndOfText;
    } else {
      text.push_back(static_cast<char>(id));
    }
  }
  return text;
}

}  // namespace entrain
