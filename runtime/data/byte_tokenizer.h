// ByteTokenizer: a token a byte.
#ifndef ENTRAIN_RUNTIME_DATA_BYTE_TOKENIZER_H_
#define ENTRAIN_RUNTIME_DATA_BYTE_TOKENIZER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/tokenizer.h"

namespace entrain {

// Ids 0..255 are the bytes' values, 256 is end of text.
class ByteTokenizer : public Tokenizer {
 public:
  void Encode(std::string_view text, std::vector<int32_t>* ids) override;
  void EncodeWithSpecial(std::string_view text, std::vector<int32_t>* ids) override;
  absl::StatusOr<std::string> Decode(std::span<const int32_t> ids) const override;
  int32_t vocab_size() const override { return 257; }
  int32_t end_of_text() const override { return 256; }
  std::string_view name() const override { return "byte"; }
  std::unique_ptr<Tokenizer> Clone() const override { return std::make_unique<ByteTokenizer>(); }
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_BYTE_TOKENIZER_H_
