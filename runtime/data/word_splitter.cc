#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/data/word_splitter.h"

#include <pcre2.h>

#include <string>

#include "runtime/base/check.h"

namespace entrain {
namespace {

// Unicode White_Space, spelt out: PCRE2's own \s has U+180E too and depends on options.
constexpr char kSpace[] =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

// The documented alternatives in their order; the contractions are grouped, which matches the same.
std::string PatternText() {
  const std::string space = kSpace;
  return R"('(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^)" + space + R"(\p{L}\p{N}]+|[)" + space +
         R"(]+(?![^)" + space + R"(])|[)" + space + R"(]+)";
}

pcre2_code* Compile() {
  const std::string text = PatternText();
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                   PCRE2_UTF | PCRE2_ANCHORED, &error, &offset, nullptr);
  CHECK(code != nullptr) << "PCRE2 error " << error << " at " << offset << " of " << text;
  return code;
}

}  // namespace

struct WordSplitter::Pattern {
  // Without JIT (a build of PCRE2 that lacks it, a kernel that forbids it) the interpreter gives
  // the same words, slower.
  Pattern() : code(Compile()), jit(pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0) {}
  ~Pattern() { pcre2_code_free(code); }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  pcre2_code* code;
  bool jit;
};

struct WordSplitter::MatchState {
  explicit MatchState(const Pattern& pattern)
      : data(pcre2_match_data_create_from_pattern(pattern.code, nullptr)) {
    CHECK(data != nullptr) << "out of memory";
  }
  ~MatchState() { pcre2_match_data_free(data); }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;

  pcre2_match_data* data;
};

WordSplitter::WordSplitter()
    : pattern_(std::make_shared<const Pattern>()),
      state_(std::make_unique<MatchState>(*pattern_)) {}

WordSplitter::~WordSplitter() = default;

WordSplitter::WordSplitter(const WordSplitter& other)
    : pattern_(other.pattern_), state_(std::make_unique<MatchState>(*pattern_)) {}

void WordSplitter::Reset(std::string_view text) {
  text_ = text;
  position_ = 0;
}

bool WordSplitter::Next(std::string_view* word) {
  if (position_ == text_.size()) return false;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
  const auto match = pattern_->jit ? pcre2_jit_match : pcre2_match;
  const int count = match(pattern_->code, subject, text_.size(), position_, PCRE2_NO_UTF_CHECK,
                          state_->data, nullptr);
  CHECK(count > 0) << "PCRE2 error " << count << " at byte " << position_;
  const size_t end = pcre2_get_ovector_pointer(state_->data)[1];
  *word = text_.substr(position_, end - position_);
  position_ = end;
  return true;
}

}  // namespace entrain
