// Corpus: text files made into a folder of token shards.
#ifndef ENTRAIN_RUNTIME_DATA_CORPUS_H_
#define ENTRAIN_RUNTIME_DATA_CORPUS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/data/encode_pool.h"
#include "runtime/data/shard_set.h"
#include "runtime/data/tokenizer.h"
#include "runtime/io/file_system.h"

namespace entrain {

inline constexpr char kCorpusIndexName[] = "index.json";

struct CorpusOptions {
  std::vector<std::string> inputs;      // files and folders, see DocumentSource
  std::vector<std::string> extensions;  // of further text files, with the dot
  std::string output;                   // the folder to be made
  bool overwrite = false;               // replace a finished set that is there
  EncodeOptions encode;
  int64_t shard_tokens = 100'000'000;
  int num_threads = 1;
};

struct CorpusProgress {
  int64_t input_bytes = 0;        // read so far, as they lie on disk
  int64_t total_input_bytes = 0;  // in all
  int64_t text_bytes = 0;         // encoded so far, as are:
  int64_t documents = 0;
  int64_t tokens = 0;
};

struct CorpusSplit {
  int64_t documents = 0;
  int64_t tokens = 0;
  std::vector<Shard> shards;
};

struct CorpusSummary {
  std::array<CorpusSplit, 2> splits;  // by Split
  int64_t text_bytes = 0;
  int64_t num_files = 0;
};

// Writes the folder `output`: train_NNNNNN.bin, val_NNNNNN.bin (llm.c's format, 16 bits a token, an end-of-text before each
// document, documents in the order of the inputs) and index.json, which lists them with counts and the tokenizer.
//
// All is written into `output`.tmp, which is renamed when it is complete: an interrupted run leaves no folder `output`, its
// .tmp is never read and is removed by the next run. Memory does not depend on the size of the input, only on that of its
// largest document; the result depends on neither threads nor timing. One process at a time may write to a folder.
//
// InvalidArgument: a tokenizer of more than 65536 tokens, a bad document (with file and line); AlreadyExists: a finished set
// without overwrite, or anything else in the way; NotFound: nothing to read, no document in it.
absl::StatusOr<CorpusSummary> WriteCorpus(FileSystem& fs, const Tokenizer& tokenizer,
                                          const CorpusOptions& options,
                                          const std::function<void(const CorpusProgress&)>& report);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_CORPUS_H_
