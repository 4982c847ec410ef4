// DocumentSource: the documents of text files and folders, one after another.
#ifndef ENTRAIN_RUNTIME_DATA_DOCUMENT_SOURCE_H_
#define ENTRAIN_RUNTIME_DATA_DOCUMENT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/data/byte_source.h"
#include "runtime/io/file_system.h"

namespace entrain {

// A document as it lies in its file: a line of JSON, or the whole of a text file.
struct RawDocument {
  std::shared_ptr<const std::string> path;
  int64_t line = 0;   // from 1; 0: `bytes` is the text itself, the whole file
  int64_t index = 0;  // among all documents of the source
  std::string bytes;

  // "path:line" or "path", for messages.
  std::string Where() const;
};

// .jsonl and .jsonl.zst hold a document a line (blank lines are skipped); .txt, and files with one of the extensions that
// the caller adds, are one document each. Holds one document in memory at a time.
class DocumentSource {
 public:
  // A document may not be longer: a file without line ends must not fill the memory.
  static constexpr int64_t kMaxDocumentBytes = int64_t{1} << 30;

  // `inputs`: files and folders. A folder stands for all such files in it and in its folders, in name order.
  // `extensions`: with the dot (".py"). NotFound: a path that is not there, or nothing to read; InvalidArgument: a file of
  // another kind.
  static absl::StatusOr<DocumentSource> Open(FileSystem& fs, const std::vector<std::string>& inputs,
                                             const std::vector<std::string>& extensions,
                                             int64_t max_document_bytes = kMaxDocumentBytes);

  // The next document; false at the end. Errors name the file.
  absl::StatusOr<bool> Next(RawDocument* document);

  const std::vector<std::string>& files() const { return files_; }
  int64_t total_bytes() const { return total_bytes_; }  // of all files, as they are on disk
  int64_t bytes_consumed() const;

 private:
  absl::Status OpenNextFile();
  absl::StatusOr<bool> Fill();
  absl::StatusOr<bool> NextLine(std::string* line);
  absl::StatusOr<bool> NextJsonLine(RawDocument* document);
  absl::Status ReadWhole(std::string* text);
  absl::Status AppendChecked(std::string_view part, std::string* text) const;

  std::vector<std::string> files_;
  int64_t max_document_bytes_ = 0;
  int64_t total_bytes_ = 0;
  int64_t finished_bytes_ = 0;  // of the files before the open one
  size_t next_file_ = 0;
  int64_t num_documents_ = 0;

  std::unique_ptr<ByteSource> source_;  // of the open file, or none
  std::shared_ptr<const std::string> path_;
  int64_t line_ = 0;
  std::vector<char> buffer_;
  size_t buffer_begin_ = 0;
  size_t buffer_end_ = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_DOCUMENT_SOURCE_H_
