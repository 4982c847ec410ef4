#include "runtime/data/bpe_tokenizer.h"

#include <utility>

#include "runtime/data/special_token.h"
#include "runtime/data/utf8.h"

namespace entrain {
namespace {

// Stands in for an invalid byte where words are cut: a control character is neither space, letter
// nor number.
constexpr char kStandIn = '\x01';

// `text` with every byte that is not part of valid UTF-8 replaced, so that positions stay as they
// are.
std::string ReplaceInvalidBytes(std::string_view text) {
  std::string valid(text);
  for (size_t position = ValidUtf8Prefix(text); position < text.size();
       position += ValidUtf8Prefix(text.substr(position))) {
    valid[position++] = kStandIn;
  }
  return valid;
}

}  // namespace

BpeTokenizer::BpeTokenizer(std::string name, MergeTable merges)
    : name_(std::move(name)), merges_(std::make_shared<const MergeTable>(std::move(merges))) {}

BpeTokenizer::BpeTokenizer(std::string name, std::shared_ptr<const MergeTable> merges,
                           const WordSplitter& splitter)
    : name_(std::move(name)), merges_(std::move(merges)), splitter_(splitter) {}

std::unique_ptr<Tokenizer> BpeTokenizer::Clone() const {
  return std::unique_ptr<Tokenizer>(new BpeTokenizer(name_, merges_, splitter_));
}

void BpeTokenizer::Encode(std::string_view text, std::vector<int32_t>* ids) {
  if (!IsValidUtf8(text)) {
    EncodeInvalid(text, ids);
    return;
  }
  splitter_.Reset(text);
  for (std::string_view word; splitter_.Next(&word);) EncodeWord(word, ids);
}

void BpeTokenizer::EncodeInvalid(std::string_view text, std::vector<int32_t>* ids) {
  const std::string valid = ReplaceInvalidBytes(text);
  splitter_.Reset(valid);
  for (std::string_view word; splitter_.Next(&word);) {
    EncodeInvalidWord(text.substr(static_cast<size_t>(word.data() - valid.data()), word.size()),
                      ids);
  }
}

void BpeTokenizer::EncodeInvalidWord(std::string_view word, std::vector<int32_t>* ids) {
  while (!word.empty()) {
    const size_t valid = ValidUtf8Prefix(word);
    if (valid > 0) EncodeWord(word.substr(0, valid), ids);
    word.remove_prefix(valid);
    if (word.empty()) break;
    ids->push_back(merges_->ByteId(static_cast<uint8_t>(word.front())));
    word.remove_prefix(1);
  }
}

void BpeTokenizer::EncodeWord(std::string_view word, std::vector<int32_t>* ids) {
  if (cache_.Find(word, ids)) return;
  const size_t before = ids->size();
  merges_->Encode(word, ids);
  cache_.Insert(word, std::span<const int32_t>(*ids).subspan(before));
}

void BpeTokenizer::EncodeWithSpecial(std::string_view text, std::vector<int32_t>* ids) {
  ForEachSpecialSplit(
      text, [&](std::string_view part) { Encode(part, ids); },
      [&] { ids->push_back(end_of_text()); });
}

absl::StatusOr<std::string> BpeTokenizer::Decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    RETURN_IF_ERROR(CheckTokenInVocab(id, vocab_size()));
    text += id == end_of_text() ? kEndOfText : merges_->Bytes(id);
  }
  return text;
}

}  // namespace entrain
