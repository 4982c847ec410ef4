// EncodePool: threads that turn batches of documents into tokens, in order.
#ifndef ENTRAIN_RUNTIME_DATA_ENCODE_POOL_H_
#define ENTRAIN_RUNTIME_DATA_ENCODE_POOL_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/data/document_source.h"
#include "runtime/data/json_document.h"
#include "runtime/data/tokenizer.h"

namespace entrain {

// How a document becomes tokens and to which split it goes.
struct EncodeOptions {
  std::string text_field = "text";
  std::string split_field;           // "": by validation_fraction
  double validation_fraction = 0.0;  // of documents, drawn by a hash of their index
};

struct EncodedDocument {
  Split split;
  int64_t num_tokens;  // end-of-text and all
};

struct EncodedBatch {
  absl::Status status;  // of the first document that could not be encoded, with its place
  std::vector<EncodedDocument> documents;
  std::vector<int32_t> tokens;  // of all documents, one after another; each begins with end-of-text
  int64_t text_bytes = 0;
};

class EncodePool {
 public:
  EncodePool(const Tokenizer& tokenizer, int num_threads, EncodeOptions options);
  ~EncodePool();
  EncodePool(const EncodePool&) = delete;
  EncodePool& operator=(const EncodePool&) = delete;

  void Submit(std::vector<RawDocument> batch);
  // Waits for the oldest batch that was submitted and not yet taken. There must be one.
  EncodedBatch Take();
  size_t in_flight() const { return in_order_.size(); }

 private:
  struct Job {
    std::vector<RawDocument> documents;
    EncodedBatch result;
    bool done = false;
  };

  void Work(Tokenizer* tokenizer);

  const EncodeOptions options_;
  std::deque<std::shared_ptr<Job>> in_order_;  // of the submitting thread alone

  std::mutex mutex_;
  std::condition_variable submitted_;
  std::condition_variable finished_;
  std::deque<std::shared_ptr<Job>> waiting_;  // guarded by mutex_, as are stopping_ and Job::done
  bool stopping_ = false;
  std::vector<std::unique_ptr<Tokenizer>> tokenizers_;  // one a thread
  std::vector<std::thread> threads_;
};

// Encodes one batch in the calling thread: what the pool's threads do.
EncodedBatch EncodeBatch(const std::vector<RawDocument>& batch, const EncodeOptions& options,
                         Tokenizer& tokenizer);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_ENCODE_POOL_H_
