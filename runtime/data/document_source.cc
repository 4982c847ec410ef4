#include "runtime/data/document_source.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace entrain {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 18;

bool IsJsonLines(std::string_view path) {
  return path.ends_with(".jsonl") || path.ends_with(".jsonl.zst");
}

bool IsReadable(std::string_view path, const std::vector<std::string>& extensions) {
  return IsJsonLines(path) || path.ends_with(".txt") ||
         std::any_of(extensions.begin(), extensions.end(),
                     [&](const std::string& extension) { return path.ends_with(extension); });
}

std::string ReadableKinds(const std::vector<std::string>& extensions) {
  std::vector<std::string> kinds = {".jsonl", ".jsonl.zst", ".txt"};
  kinds.insert(kinds.end(), extensions.begin(), extensions.end());
  return absl::StrJoin(kinds, ", ");
}

// Adds the files of `folder` and of the folders in it. `above`: the folders that it lies in, without links; one that a link
// leads back to is passed over, or there would be no end.
absl::Status AddFolder(FileSystem& fs, const std::string& folder,
                       const std::vector<std::string>& extensions,
                       std::vector<std::filesystem::path>* above, std::vector<std::string>* files) {
  ASSIGN_OR_RETURN(const std::vector<DirEntry> entries, fs.List(folder));
  std::error_code error;
  const std::filesystem::path place = std::filesystem::canonical(folder, error);
  if (std::find(above->begin(), above->end(), place) != above->end()) return absl::OkStatus();
  above->push_back(place);
  for (const DirEntry& entry : entries) {
    const std::string path = JoinPath(folder, entry.name);
    if (entry.is_directory) {
      RETURN_IF_ERROR(AddFolder(fs, path, extensions, above, files));
    } else if (IsReadable(path, extensions) && std::filesystem::is_regular_file(path, error)) {
      // A pipe in a folder would wait for its writer for ever.
      files->push_back(path);
    }
  }
  above->pop_back();
  return absl::OkStatus();
}

absl::Status AddInput(FileSystem& fs, const std::string& path,
                      const std::vector<std::string>& extensions, std::vector<std::string>* files) {
  ASSIGN_OR_RETURN(const bool exists, fs.Exists(path));
  if (!exists) return absl::NotFoundError(absl::StrCat("no such file or folder: '", path, "'"));
  ASSIGN_OR_RETURN(const bool is_directory, fs.IsDirectory(path));
  if (!is_directory) {
    if (!IsReadable(path, extensions)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "'", path, "' is none of the kinds that are read: ", ReadableKinds(extensions),
          "; name others with --extension"));
    }
    files->push_back(path);
    return absl::OkStatus();
  }
  const size_t before = files->size();
  std::vector<std::filesystem::path> above;
  RETURN_IF_ERROR(AddFolder(fs, path, extensions, &above, files));
  if (files->size() > before) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("folder '", path, "' holds no file of the kinds ",
                                          ReadableKinds(extensions),
                                          "; name others with --extension"));
}

bool IsBlank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace

std::string RawDocument::Where() const {
  return line == 0 ? *path : absl::StrCat(*path, ":", line);
}

absl::StatusOr<DocumentSource> DocumentSource::Open(FileSystem& fs,
                                                    const std::vector<std::string>& inputs,
                                                    const std::vector<std::string>& extensions,
                                                    int64_t max_document_bytes) {
  DocumentSource source;
  source.max_document_bytes_ = max_document_bytes;
  source.buffer_.resize(kBufferBytes);
  for (const std::string& input : inputs) {
    RETURN_IF_ERROR(AddInput(fs, input, extensions, &source.files_));
  }
  if (source.files_.empty()) return absl::NotFoundError("no input was given");
  for (const std::string& file : source.files_) {
    ASSIGN_OR_RETURN(const int64_t bytes, fs.FileSize(file));
    source.total_bytes_ += bytes;
  }
  return source;
}

int64_t DocumentSource::bytes_consumed() const {
  return finished_bytes_ + (source_ ? source_->bytes_consumed() : 0);
}

absl::StatusOr<bool> DocumentSource::Next(RawDocument* document) {
  while (source_ || next_file_ < files_.size()) {
    if (!source_) RETURN_IF_ERROR(OpenNextFile());
    document->path = path_;
    bool found = true;
    if (IsJsonLines(*path_)) {
      ASSIGN_OR_RETURN(found, NextJsonLine(document));
    } else {
      document->line = 0;
      RETURN_IF_ERROR(ReadWhole(&document->bytes));
    }
    if (!found || !IsJsonLines(*path_)) {
      finished_bytes_ += source_->bytes_consumed();
      source_.reset();
    }
    if (!found) continue;
    document->index = num_documents_++;
    return true;
  }
  return false;
}

absl::Status DocumentSource::OpenNextFile() {
  path_ = std::make_shared<const std::string>(files_[next_file_++]);
  ASSIGN_OR_RETURN(source_, OpenByteSource(*path_));
  line_ = 0;
  buffer_begin_ = 0;
  buffer_end_ = 0;
  return absl::OkStatus();
}

// Makes the buffer hold at least a byte; false at the end of the file.
absl::StatusOr<bool> DocumentSource::Fill() {
  if (buffer_begin_ < buffer_end_) return true;
  ASSIGN_OR_RETURN(const int64_t count,
                   source_->Read(buffer_.data(), static_cast<int64_t>(buffer_.size())));
  buffer_begin_ = 0;
  buffer_end_ = static_cast<size_t>(count);
  return count > 0;
}

absl::Status DocumentSource::AppendChecked(std::string_view part, std::string* text) const {
  if (static_cast<int64_t>(text->size() + part.size()) > max_document_bytes_) {
    return absl::InvalidArgumentError(
        absl::StrCat(*path_, line_ == 0 ? std::string() : absl::StrCat(":", line_),
                     ": a document of more than ", max_document_bytes_,
                     " bytes; a document is held in memory as a whole: cut it into smaller ones"));
  }
  text->append(part);
  return absl::OkStatus();
}

absl::StatusOr<bool> DocumentSource::NextLine(std::string* line) {
  line->clear();
  ++line_;
  for (bool any = false;; any = true) {
    ASSIGN_OR_RETURN(const bool more, Fill());
    if (!more) return any;
    const std::string_view rest(buffer_.data() + buffer_begin_, buffer_end_ - buffer_begin_);
    const size_t end = rest.find('\n');
    RETURN_IF_ERROR(AppendChecked(rest.substr(0, end), line));
    buffer_begin_ = end == std::string_view::npos ? buffer_end_ : buffer_begin_ + end + 1;
    if (end != std::string_view::npos) return true;
  }
}

absl::StatusOr<bool> DocumentSource::NextJsonLine(RawDocument* document) {
  do {
    ASSIGN_OR_RETURN(const bool found, NextLine(&document->bytes));
    if (!found) return false;
  } while (IsBlank(document->bytes));
  document->line = line_;
  return true;
}

absl::Status DocumentSource::ReadWhole(std::string* text) {
  text->clear();
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, Fill());
    if (!more) return absl::OkStatus();
    RETURN_IF_ERROR(AppendChecked(
        std::string_view(buffer_.data() + buffer_begin_, buffer_end_ - buffer_begin_), text));
    buffer_begin_ = buffer_end_;
  }
}

}  // namespace entrain
