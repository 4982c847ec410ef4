// Tokenizers: bytes ↔ token ids.
#ifndef ENTRAIN_RUNTIME_DATA_TOKENIZER_H_
#define ENTRAIN_RUNTIME_DATA_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace entrain {

// Any bytes may be encoded and come back whole from Decode(Encode(x)); what is not valid UTF-8
// becomes byte tokens. Encode is for one thread at a time (it keeps a cache); Clone gives another
// thread its own.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Appends the ids of `text` to `ids`. "<|endoftext|>" in the text is ordinary text.
  virtual void Encode(std::string_view text, std::vector<int32_t>* ids) = 0;
  // As Encode, but "<|endoftext|>" is the special token.
  virtual void EncodeWithSpecial(std::string_view text, std::vector<int32_t>* ids) = 0;
  // OutOfRange names an id that is not in [0, vocab_size).
  virtual absl::StatusOr<std::string> Decode(std::span<const int32_t> ids) const = 0;
  virtual int32_t vocab_size() const = 0;
  virtual int32_t end_of_text() const = 0;
  virtual std::string_view name() const = 0;
  virtual std::unique_ptr<Tokenizer> Clone() const = 0;
};

// `spec`: "byte" (ids 0..255, end of text 256, vocabulary 257); "gpt2" (the merges found with the
// program, see FindGpt2Merges); or a path to a merges.txt in GPT-2's form.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(const std::string& spec);

// Whether `spec` names a tokenizer, without reading one. NotFound names what is allowed and the nearest name.
absl::Status CheckTokenizerName(const std::string& spec);

// Where GPT-2's merges are: $ENTRAIN_DATA/gpt2/merges.txt, else share/entrain/gpt2 or runtime/data/gpt2 in a folder above
// the binary's, else the source tree it was built from.
absl::StatusOr<std::string> FindGpt2Merges();

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_TOKENIZER_H_
