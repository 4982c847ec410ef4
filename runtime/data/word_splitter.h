// WordSplitter: GPT-2's pre-tokenizer, which cuts text into the words inside which merges may
// happen.
#ifndef ENTRAIN_RUNTIME_DATA_WORD_SPLITTER_H_
#define ENTRAIN_RUNTIME_DATA_WORD_SPLITTER_H_

#include <memory>
#include <string_view>

namespace entrain {

// Words are the consecutive matches of
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// with \s = Unicode White_Space (Radford et al. 2019, encoder.py of the GPT-2 release). Every
// character is in one of the classes, so the words cover the text without gaps. A splitter is for
// one thread; copies share the compiled pattern.
class WordSplitter {
 public:
  WordSplitter();
  ~WordSplitter();
  WordSplitter(const WordSplitter& other);
  WordSplitter& operator=(const WordSplitter&) = delete;

  // Starts over with `text`, which must be valid UTF-8 (not checked again) and outlive the calls of
  // Next.
  void Reset(std::string_view text);
  // The next word; false at the end of the text.
  bool Next(std::string_view* word);

 private:
  struct Pattern;
  struct MatchState;

  std::shared_ptr<const Pattern> pattern_;
  std::unique_ptr<MatchState> state_;
  std::string_view text_;
  size_t position_ = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_WORD_SPLITTER_H_
