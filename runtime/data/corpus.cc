#include "runtime/data/corpus.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace entrain {
namespace {

// Text handed to a thread at once, at least (documents are not cut).
constexpr int64_t kBatchBytes = int64_t{1} << 19;
constexpr int32_t kMaxVocab = 65536;

std::string WithoutTrailingSlashes(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

// ".", "..", "/": a folder that cannot be renamed under this name.
bool HasOwnName(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  return !name.empty() && name != "." && name != "..";
}

bool IsOwnFile(const DirEntry& entry) {
  const std::string& name = entry.name;
  return !entry.is_directory &&
         (name == kCorpusIndexName ||
          (name.ends_with(".bin") && (name.starts_with("train_") || name.starts_with("val_"))));
}

// The output folder: written under another name, renamed when it is complete.
class CorpusFolder {
 public:
  CorpusFolder(FileSystem& fs, const std::string& path)
      : fs_(fs), path_(WithoutTrailingSlashes(path)) {}

  std::string staging() const { return path_ + ".tmp"; }

  absl::Status Begin(bool overwrite);
  absl::Status Commit();
  void Abandon() { fs_.RemoveTree(staging()).IgnoreError(); }

 private:
  std::string replaced() const { return path_ + ".replaced.tmp"; }
  absl::Status CheckFree(bool overwrite) const;

  FileSystem& fs_;
  std::string path_;
};

absl::Status CorpusFolder::CheckFree(bool overwrite) const {
  ASSIGN_OR_RETURN(const bool exists, fs_.Exists(path_));
  if (!exists) return absl::OkStatus();
  ASSIGN_OR_RETURN(const bool is_directory, fs_.IsDirectory(path_));
  if (!is_directory) {
    return absl::AlreadyExistsError(
        absl::StrCat("output '", path_, "' is a file; give the name of a folder to be made"));
  }
  ASSIGN_OR_RETURN(const std::vector<DirEntry> entries, fs_.List(path_));
  for (const DirEntry& entry : entries) {
    if (IsOwnFile(entry)) continue;
    return absl::AlreadyExistsError(absl::StrCat(
        "output folder '", path_, "' holds '", entry.name,
        "', which is no token shard; give a folder that is new, empty or an earlier output"));
  }
  if (entries.empty() || overwrite) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat("output folder '", path_,
                                               "' holds token shards already; give --overwrite to "
                                               "replace them, or another folder"));
}

absl::Status CorpusFolder::Begin(bool overwrite) {
  if (!HasOwnName(path_)) {
    return absl::InvalidArgumentError(
        absl::StrCat("output '", path_,
                     "' must be named, since it is renamed when it is complete; give the "
                     "name of a folder to be made"));
  }
  if (path_.ends_with(".tmp")) {
    return absl::InvalidArgumentError(
        absl::StrCat("output '", path_, "' ends in .tmp, and such names are never read"));
  }
  RETURN_IF_ERROR(CheckFree(overwrite));
  RETURN_IF_ERROR(fs_.RemoveTree(staging()));
  return fs_.MakeDirectories(staging());
}

absl::Status CorpusFolder::Commit() {
  RETURN_IF_ERROR(fs_.RemoveTree(replaced()));
  ASSIGN_OR_RETURN(const bool exists, fs_.Exists(path_));
  if (exists) RETURN_IF_ERROR(fs_.Rename(path_, replaced()));
  if (absl::Status renamed = fs_.Rename(staging(), path_); !renamed.ok()) {
    if (exists) fs_.Rename(replaced(), path_).IgnoreError();  // the first error is the one to tell
    return renamed;
  }
  RETURN_IF_ERROR(fs_.SyncDirectory(ParentPath(path_)));
  return fs_.RemoveTree(replaced());
}

// Reads, has encoded, and writes, in the order of the documents.
class CorpusWriter {
 public:
  CorpusWriter(FileSystem& fs, const Tokenizer& tokenizer, const CorpusOptions& options,
               const std::string& folder, DocumentSource source,
               const std::function<void(const CorpusProgress&)>& report)
      : source_(std::move(source)),
        pool_(tokenizer, options.num_threads, options.encode),
        max_in_flight_(2 * static_cast<size_t>(options.num_threads) + 1),
        report_(report) {
    for (const auto& [split, name] : kSplitNames.rows) {
      sets_.push_back(
          std::make_unique<ShardSet>(fs, folder, std::string(name), options.shard_tokens));
    }
    progress_.total_input_bytes = source_.total_bytes();
  }

  absl::Status Run();
  CorpusSummary Summary() const;

 private:
  absl::StatusOr<bool> SubmitBatch();
  absl::Status WriteBatch(const EncodedBatch& batch);

  DocumentSource source_;
  EncodePool pool_;
  size_t max_in_flight_;
  const std::function<void(const CorpusProgress&)>& report_;
  std::vector<std::unique_ptr<ShardSet>> sets_;  // by Split
  std::array<int64_t, 2> documents_{};
  CorpusProgress progress_;
};

absl::Status CorpusWriter::Run() {
  absl::StatusOr<bool> more = true;
  for (;;) {
    while (more.ok() && *more && pool_.in_flight() < max_in_flight_) more = SubmitBatch();
    if (pool_.in_flight() == 0) break;
    RETURN_IF_ERROR(WriteBatch(pool_.Take()));
  }
  // Only now: a bad document that was read before the source failed is the first error.
  RETURN_IF_ERROR(more.status());
  for (const std::unique_ptr<ShardSet>& set : sets_) RETURN_IF_ERROR(set->Finish());
  if (progress_.documents > 0) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("no document in the ", source_.files().size(),
                                          " input file(s), the first of ", "which is '",
                                          source_.files().front(), "'"));
}

// False when the source has come to its end.
absl::StatusOr<bool> CorpusWriter::SubmitBatch() {
  std::vector<RawDocument> batch;
  absl::StatusOr<bool> found = true;
  for (int64_t bytes = 0; bytes < kBatchBytes;) {
    RawDocument document;
    found = source_.Next(&document);
    if (!found.ok() || !*found) break;
    bytes += static_cast<int64_t>(document.bytes.size());
    batch.push_back(std::move(document));
  }
  if (!batch.empty()) pool_.Submit(std::move(batch));
  return found;
}

absl::Status CorpusWriter::WriteBatch(const EncodedBatch& batch) {
  RETURN_IF_ERROR(batch.status);
  std::span<const int32_t> tokens = batch.tokens;
  for (const EncodedDocument& document : batch.documents) {
    const auto split = static_cast<size_t>(document.split);
    const auto count = static_cast<size_t>(document.num_tokens);
    RETURN_IF_ERROR(sets_[split]->Append(tokens.first(count)));
    tokens = tokens.subspan(count);
    ++documents_[split];
  }
  progress_.documents += static_cast<int64_t>(batch.documents.size());
  progress_.tokens += static_cast<int64_t>(batch.tokens.size());
  progress_.text_bytes += batch.text_bytes;
  progress_.input_bytes = source_.bytes_consumed();
  report_(progress_);
  return absl::OkStatus();
}

CorpusSummary CorpusWriter::Summary() const {
  CorpusSummary summary;
  for (size_t split = 0; split < sets_.size(); ++split) {
    summary.splits[split] = {.documents = documents_[split],
                             .tokens = sets_[split]->num_tokens(),
                             .shards = sets_[split]->shards()};
  }
  summary.text_bytes = progress_.text_bytes;
  summary.num_files = static_cast<int64_t>(source_.files().size());
  return summary;
}

std::string IndexText(const Tokenizer& tokenizer, const CorpusSummary& summary) {
  nlohmann::ordered_json index = {{"version", 1},
                                  {"tokenizer", std::string(tokenizer.name())},
                                  {"vocab", tokenizer.vocab_size()},
                                  {"end_of_text", tokenizer.end_of_text()},
                                  {"text_bytes", summary.text_bytes}};
  for (const auto& [split, name] : kSplitNames.rows) {
    const CorpusSplit& counts = summary.splits[static_cast<size_t>(split)];
    nlohmann::ordered_json shards = nlohmann::ordered_json::array();
    for (const Shard& shard : counts.shards) {
      shards.push_back({{"file", shard.name}, {"tokens", shard.num_tokens}});
    }
    index["splits"][std::string(name)] = {
        {"documents", counts.documents}, {"tokens", counts.tokens}, {"shards", std::move(shards)}};
  }
  return index.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::StatusOr<CorpusSummary> WriteStaged(
    FileSystem& fs, const Tokenizer& tokenizer, const CorpusOptions& options,
    const std::string& folder, const std::function<void(const CorpusProgress&)>& report) {
  ASSIGN_OR_RETURN(DocumentSource source,
                   DocumentSource::Open(fs, options.inputs, options.extensions));
  CorpusWriter writer(fs, tokenizer, options, folder, std::move(source), report);
  RETURN_IF_ERROR(writer.Run());
  CorpusSummary summary = writer.Summary();
  RETURN_IF_ERROR(
      WriteTextAtomically(fs, JoinPath(folder, kCorpusIndexName), IndexText(tokenizer, summary)));
  return summary;
}

}  // namespace

absl::StatusOr<CorpusSummary> WriteCorpus(
    FileSystem& fs, const Tokenizer& tokenizer, const CorpusOptions& options,
    const std::function<void(const CorpusProgress&)>& report) {
  if (tokenizer.vocab_size() > kMaxVocab) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer '", std::string(tokenizer.name()), "' has ", tokenizer.vocab_size(),
                     " tokens; shards of 16 bits a token hold at most ", kMaxVocab));
  }
  CorpusFolder folder(fs, options.output);
  RETURN_IF_ERROR(folder.Begin(options.overwrite));
  absl::StatusOr<CorpusSummary> summary =
      WriteStaged(fs, tokenizer, options, folder.staging(), report);
  absl::Status status = summary.status();
  if (status.ok()) status = folder.Commit();
  if (!status.ok()) {
    folder.Abandon();
    return status;
  }
  return summary;
}

}  // namespace entrain
