#include "runtime/data/encode_pool.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/philox.h"

namespace entrain {
namespace {

// Depends on the document's index alone, so neither threads nor batches change what goes where.
Split DrawSplit(int64_t index, double validation_fraction) {
  const uint32_t word = Philox(0, StreamOf("validation_fraction"), static_cast<uint64_t>(index))[0];
  return static_cast<double>(word) * 0x1p-32 < validation_fraction ? Split::kVal : Split::kTrain;
}

absl::Status EncodeDocument(const RawDocument& raw, const EncodeOptions& options,
                            Tokenizer& tokenizer, EncodedBatch* batch) {
  JsonDocument parsed;
  if (raw.line > 0) {
    ASSIGN_OR_RETURN(parsed, ParseJsonDocument(raw.bytes, options.text_field, options.split_field));
  } else if (!options.split_field.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("a text file has no field '",
                                                   options.split_field,
                                                   "' to tell its split; use a fraction instead"));
  }
  const std::string& text = raw.line > 0 ? parsed.text : raw.bytes;
  const size_t before = batch->tokens.size();
  batch->tokens.push_back(tokenizer.end_of_text());
  tokenizer.Encode(text, &batch->tokens);
  batch->text_bytes += static_cast<int64_t>(text.size());
  batch->documents.push_back(
      {.split = parsed.split.value_or(DrawSplit(raw.index, options.validation_fraction)),
       .num_tokens = static_cast<int64_t>(batch->tokens.size() - before)});
  return absl::OkStatus();
}

}  // namespace

EncodedBatch EncodeBatch(const std::vector<RawDocument>& batch, const EncodeOptions& options,
                         Tokenizer& tokenizer) {
  EncodedBatch result;
  for (const RawDocument& raw : batch) {
    const absl::Status status = EncodeDocument(raw, options, tokenizer, &result);
    if (status.ok()) continue;
    result.status = absl::Status(status.code(), absl::StrCat(raw.Where(), ": ", status.message()));
    break;
  }
  return result;
}

EncodePool::EncodePool(const Tokenizer& tokenizer, int num_threads, EncodeOptions options)
    : options_(std::move(options)) {
  CHECK_GE(num_threads, 1);
  for (int i = 0; i < num_threads; ++i) tokenizers_.push_back(tokenizer.Clone());
  for (const std::unique_ptr<Tokenizer>& own : tokenizers_) {
    threads_.emplace_back([this, &own] { Work(own.get()); });
  }
}

EncodePool::~EncodePool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  submitted_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void EncodePool::Submit(std::vector<RawDocument> batch) {
  auto job = std::make_shared<Job>();
  job->documents = std::move(batch);
  in_order_.push_back(job);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back(std::move(job));
  }
  submitted_.notify_one();
}

EncodedBatch EncodePool::Take() {
  CHECK(!in_order_.empty());
  const std::shared_ptr<Job> job = std::move(in_order_.front());
  in_order_.pop_front();
  std::unique_lock<std::mutex> lock(mutex_);
  finished_.wait(lock, [&] { return job->done; });
  return std::move(job->result);
}

void EncodePool::Work(Tokenizer* tokenizer) {
  for (;;) {
    std::unique_lock<std::mutex> lock(mutex_);
    submitted_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    const std::shared_ptr<Job> job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    job->result = EncodeBatch(job->documents, options_, *tokenizer);
    job->documents.clear();
    lock.lock();
    job->done = true;
    lock.unlock();
    finished_.notify_one();
  }
}

}  // namespace entrain
