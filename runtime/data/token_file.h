// Token files, memory-mapped: one or many shards seen as one array of tokens.
#ifndef ENTRAIN_RUNTIME_DATA_TOKEN_FILE_H_
#define ENTRAIN_RUNTIME_DATA_TOKEN_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/enum_table.h"
#include "runtime/base/status.h"
#include "runtime/io/file_system.h"

namespace entrain {

// kAuto: by the magic number (llm.c) or by the .idx beside a .bin (Megatron); nanoGPT only when
// named.
enum class TokenFormat { kAuto, kLlmc, kNanogpt, kMegatron };
inline constexpr EnumTable<TokenFormat, 4> kTokenFormatNames{
    {{{TokenFormat::kAuto, "auto"},
      {TokenFormat::kLlmc, "llmc"},
      {TokenFormat::kNanogpt, "nanogpt"},
      {TokenFormat::kMegatron, "megatron"}}}};

// The tokens of one file. Files may be larger than memory and than 4 GiB; positions are 64-bit. May
// be read by several threads at once.
class TokenFile {
 public:
  virtual ~TokenFile() = default;
  virtual int64_t size() const = 0;
  // Copies tokens [begin, begin + count) to `out`.
  virtual void Read(int64_t begin, int64_t count, int32_t* out) const = 0;
  virtual const std::string& path() const = 0;
};

// Refuses, with the path, what was expected and what was found: a missing or unreadable file (the
// file system's code); a wrong magic number or version, a length that does not fit the header, an
// .idx that does not fit its .bin (InvalidArgument). `path` of a Megatron pair is its
// .bin or its .idx; its sequences are presented as one run, in the order of the .idx.
absl::StatusOr<std::unique_ptr<TokenFile>> OpenTokenFile(FileSystem& fs, const std::string& path,
                                                         TokenFormat format);

// All tokens that a path names, cut into sequences of T inputs and their T targets (one further),
// with stride T inside each file: file f holds ⌊(size − 1)/T⌋ sequences, and no sequence crosses
// from one file to another.
class TokenDataset {
 public:
  // `path`: as for ExpandPath; shards in name order. Refuses (InvalidArgument) a file too short for
  // one sequence and, while reading, a token that is not in [0, vocab) (OutOfRange): with file,
  // position, value and vocabulary.
  static absl::StatusOr<TokenDataset> Open(FileSystem& fs, const std::string& path,
                                           TokenFormat format, int64_t sequence_length,
                                           int64_t vocab);

  int64_t num_sequences() const { return num_sequences_; }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t sequence_length() const { return sequence_length_; }
  int64_t num_files() const { return static_cast<int64_t>(files_.size()); }
  // Names (not folders), sizes and samples of the files, hashed: 32 hex digits. A checkpoint
  // remembers it to notice that the data changed.
  const std::string& fingerprint() const { return fingerprint_; }

  // Looks at the first `num_tokens` tokens of all files, also at those that are in no sequence; OutOfRange as Read gives it.
  absl::Status CheckVocabulary(int64_t num_tokens) const;

  // The T inputs and T targets of sequence `index`.
  absl::Status Read(int64_t index, int32_t* inputs, int32_t* targets) const;

 private:
  std::vector<std::unique_ptr<TokenFile>> files_;
  std::vector<int64_t> first_sequence_;  // of each file
  int64_t num_sequences_ = 0;
  int64_t num_tokens_ = 0;
  int64_t sequence_length_ = 0;
  int64_t vocab_ = 0;
  std::string fingerprint_;
};

// Expands to files in name order; NotFound when nothing matches. `path` is a file; a Megatron
// prefix (there is a path.idx); a folder, which stands for its *.bin (and for an *.idx without one,
// which is then refused by name); or a glob
// (* ? [..] in any component), whose matches may be any files, save that an .idx whose .bin matches
// too is its partner and not one more. Names that end in .tmp are never taken (InvalidArgument
// when `path` itself is one). A folder that holds
// both train_* and val_* shards is refused (InvalidArgument): training on both is never meant.
absl::StatusOr<std::vector<std::string>> ExpandPath(FileSystem& fs, const std::string& path);

// Writes one llm.c shard (magic 20240520, uint16) under temporary names (path.body.tmp, path.tmp),
// which a writer that is destroyed unfinished removes; Finish puts it in place. Needs a few KiB of
// memory, whatever the shard's size.
class TokenFileWriter {
 public:
  static absl::StatusOr<std::unique_ptr<TokenFileWriter>> Create(FileSystem& fs,
                                                                 const std::string& path);
  virtual ~TokenFileWriter() = default;
  // OutOfRange: a token that is not in [0, 65535], or more tokens than the header can tell (2^31 -
  // 1).
  virtual absl::Status Append(const int32_t* tokens, int64_t count) = 0;
  virtual int64_t size() const = 0;
  // Header, sync, rename, sync of the folder.
  virtual absl::Status Finish() = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_TOKEN_FILE_H_
