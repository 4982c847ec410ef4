// TokenDataset of token_file.h.
#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/data/token_file.h"
#include "runtime/io/manifest.h"

namespace entrain {
namespace {

// Samples of a file for the fingerprint: so many stretches of so many tokens, evenly spaced from
// first to last.
constexpr int64_t kNumSamples = 64;
constexpr int64_t kSampleTokens = 64;

void AppendSamples(const TokenFile& file, std::string* out) {
  const int64_t count = std::min(kSampleTokens, file.size());
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int64_t i = 0; i < kNumSamples; ++i) {
    // (size − count)·i may pass 2^63 only for files beyond any disk.
    file.Read((file.size() - count) * i / (kNumSamples - 1), count, tokens.data());
    out->append(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(int32_t));
  }
}

std::string FingerprintOf(const std::vector<std::unique_ptr<TokenFile>>& files) {
  std::string described;
  for (const std::unique_ptr<TokenFile>& file : files) {
    const std::string& path = file->path();
    absl::StrAppend(&described, path.substr(path.rfind('/') + 1), "\n", file->size(), "\n");
    AppendSamples(*file, &described);
  }
  return ChecksumOf(described.data(), static_cast<int64_t>(described.size()));
}

// Position of the first token that is not in [0, vocab), or -1.
int64_t FindOutside(const int32_t* tokens, int64_t count, int64_t vocab) {
  // A negative token is a large unsigned one.
  const auto limit =
      static_cast<uint32_t>(std::min<int64_t>(vocab, std::numeric_limits<int32_t>::max()));
  uint32_t greatest = 0;
  for (int64_t i = 0; i < count; ++i) {
    greatest = std::max(greatest, static_cast<uint32_t>(tokens[i]));
  }
  if (greatest < limit) return -1;
  const auto* const found = std::find_if(
      tokens, tokens + count, [&](int32_t token) { return static_cast<uint32_t>(token) >= limit; });
  return found - tokens;
}

absl::Status OutsideVocabulary(const TokenFile& file, int64_t position, int32_t token,
                               int64_t vocab) {
  return absl::OutOfRangeError(absl::StrCat(file.path(), ": token ", token, " at position ",
                                            position, " is not in the model's vocabulary of ",
                                            vocab, " (0 to ", vocab - 1,
                                            "): was the file made with another tokenizer?"));
}

}  // namespace

absl::StatusOr<TokenDataset> TokenDataset::Open(FileSystem& fs, const std::string& path,
                                                TokenFormat format, int64_t sequence_length,
                                                int64_t vocab) {
  CHECK_GE(sequence_length, 1);
  CHECK_GE(vocab, 1);
  ASSIGN_OR_RETURN(const std::vector<std::string> paths, ExpandPath(fs, path));
  TokenDataset dataset;
  dataset.sequence_length_ = sequence_length;
  dataset.vocab_ = vocab;
  for (const std::string& file_path : paths) {
    ASSIGN_OR_RETURN(std::unique_ptr<TokenFile> file, OpenTokenFile(fs, file_path, format));
    if (file->size() < sequence_length + 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          file_path, ": too short for one sequence: ", sequence_length,
          " inputs and their targets take ", sequence_length + 1, " tokens; the file has ",
          file->size(), ". Use a longer file or a shorter context"));
    }
    dataset.first_sequence_.push_back(dataset.num_sequences_);
    dataset.num_sequences_ += (file->size() - 1) / sequence_length;
    dataset.num_tokens_ += file->size();
    dataset.files_.push_back(std::move(file));
  }
  dataset.fingerprint_ = FingerprintOf(dataset.files_);
  return dataset;
}

absl::Status TokenDataset::CheckVocabulary(int64_t num_tokens) const {
  constexpr int64_t kChunk = int64_t{1} << 16;
  std::vector<int32_t> tokens(static_cast<size_t>(std::min(kChunk, num_tokens)));
  for (const std::unique_ptr<TokenFile>& file : files_) {
    for (int64_t begin = 0; begin < file->size() && num_tokens > 0; begin += kChunk) {
      const int64_t count = std::min({kChunk, file->size() - begin, num_tokens});
      file->Read(begin, count, tokens.data());
      const int64_t outside = FindOutside(tokens.data(), count, vocab_);
      if (outside >= 0) {
        return OutsideVocabulary(*file, begin + outside, tokens[static_cast<size_t>(outside)],
                                 vocab_);
      }
      num_tokens -= count;
    }
  }
  return absl::OkStatus();
}

absl::Status TokenDataset::Read(int64_t index, int32_t* inputs, int32_t* targets) const {
  CHECK(index >= 0 && index < num_sequences_) << "sequence " << index << " of " << num_sequences_;
  const auto after = std::upper_bound(first_sequence_.begin(), first_sequence_.end(), index);
  const auto file_index = static_cast<size_t>(after - first_sequence_.begin() - 1);
  const TokenFile& file = *files_[file_index];
  const int64_t begin = (index - first_sequence_[file_index]) * sequence_length_;
  const auto length = static_cast<size_t>(sequence_length_);
  file.Read(begin, sequence_length_, inputs);
  std::memcpy(targets, inputs + 1, (length - 1) * sizeof(int32_t));
  file.Read(begin + sequence_length_, 1, targets + length - 1);

  int64_t outside = FindOutside(inputs, sequence_length_, vocab_);
  const int32_t* tokens = inputs;
  if (outside < 0 && FindOutside(targets + length - 1, 1, vocab_) == 0) {
    outside = sequence_length_;
    tokens = targets - 1;
  }
  if (outside < 0) return absl::OkStatus();
  return OutsideVocabulary(file, begin + outside, tokens[outside], vocab_);
}

}  // namespace entrain
