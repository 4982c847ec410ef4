// BpeTokenizer: GPT-2's byte-level byte-pair encoding.
#ifndef ENTRAIN_RUNTIME_DATA_BPE_TOKENIZER_H_
#define ENTRAIN_RUNTIME_DATA_BPE_TOKENIZER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/merge_table.h"
#include "runtime/data/tokenizer.h"
#include "runtime/data/word_cache.h"
#include "runtime/data/word_splitter.h"

namespace entrain {

// Text → words (WordSplitter) → tokens (MergeTable, behind a WordCache). The end-of-text token is
// the last id, after all merges. A byte that is not part of valid UTF-8 counts as a character of
// the class "neither space, letter nor number" where words are cut, and takes part in no merge: it
// is always its byte token.
class BpeTokenizer : public Tokenizer {
 public:
  BpeTokenizer(std::string name, MergeTable merges);

  void Encode(std::string_view text, std::vector<int32_t>* ids) override;
  void EncodeWithSpecial(std::string_view text, std::vector<int32_t>* ids) override;
  absl::StatusOr<std::string> Decode(std::span<const int32_t> ids) const override;
  int32_t vocab_size() const override { return merges_->size() + 1; }
  int32_t end_of_text() const override { return merges_->size(); }
  std::string_view name() const override { return name_; }
  std::unique_ptr<Tokenizer> Clone() const override;

 private:
  BpeTokenizer(std::string name, std::shared_ptr<const MergeTable> merges,
               const WordSplitter& splitter);
  void EncodeInvalid(std::string_view text, std::vector<int32_t>* ids);
  void EncodeWord(std::string_view word, std::vector<int32_t>* ids);
  void EncodeInvalidWord(std::string_view word, std::vector<int32_t>* ids);

  std::string name_;
  std::shared_ptr<const MergeTable> merges_;
  WordSplitter splitter_;
  WordCache cache_;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_BPE_TOKENIZER_H_
