#include "runtime/data/batch_loader.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "runtime/base/check.h"

namespace entrain {
namespace {

// Enough to hide a page fault or two; a batch is small beside a model.
constexpr size_t kBatchesAhead = 4;

}  // namespace

class BatchLoader::Impl {
 public:
  Impl(const TokenDataset& dataset, const BatchSampler& sampler, int64_t first_step,
       const BatchShare& share)
      : dataset_(dataset),
        sampler_(sampler),
        first_step_(first_step),
        share_(share),
        thread_([this] { ReadAhead(); }) {}

  ~Impl() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    space_.notify_one();
    thread_.join();
  }

  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  absl::StatusOr<Batch> Next() {
    std::unique_lock<std::mutex> lock(mutex_);
    ready_.wait(lock, [this] { return !batches_.empty(); });
    // An error is the last thing that the thread makes: it stays, and every later call gets it too.
    if (!batches_.front().ok()) return batches_.front().status();
    absl::StatusOr<Batch> batch = std::move(batches_.front());
    batches_.pop_front();
    lock.unlock();
    space_.notify_one();
    return batch;
  }

 private:
  void ReadAhead() {
    const int64_t per_step = share_.micro_steps();
    for (int64_t i = 0;; ++i) {
      const int64_t part = (i % per_step) * share_.ranks + share_.rank;
      absl::StatusOr<Batch> batch =
          ReadBatch(first_step_ + i / per_step, part * share_.micro_batch);
      const bool failed = !batch.ok();
      if (!Deliver(std::move(batch)) || failed) return;
    }
  }

  absl::StatusOr<Batch> ReadBatch(int64_t step, int64_t first_position) const {
    const int64_t length = dataset_.sequence_length();
    const int64_t rows = share_.micro_batch;
    Batch batch{.batch_size = rows, .sequence_length = length, .inputs = {}, .targets = {}};
    batch.inputs.resize(static_cast<size_t>(rows * length));
    batch.targets.resize(static_cast<size_t>(rows * length));
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t sequence = sampler_.SequenceIndex(step, first_position + row);
      RETURN_IF_ERROR(dataset_.Read(sequence, batch.inputs.data() + row * length,
                                    batch.targets.data() + row * length));
    }
    return batch;
  }

  // Waits for space; false when the loader is being destroyed.
  bool Deliver(absl::StatusOr<Batch> batch) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      space_.wait(lock, [this] { return stopping_ || batches_.size() < kBatchesAhead; });
      if (stopping_) return false;
      batches_.push_back(std::move(batch));
    }
    ready_.notify_one();
    return true;
  }

  const TokenDataset& dataset_;
  const BatchSampler sampler_;
  const int64_t first_step_;
  const BatchShare share_;

  std::mutex mutex_;
  std::condition_variable space_;
  std::condition_variable ready_;
  std::deque<absl::StatusOr<Batch>> batches_;  // guarded by mutex_, as is stopping_
  bool stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

BatchLoader::BatchLoader(const TokenDataset& dataset, const BatchSampler& sampler,
                         int64_t first_step, const BatchShare& share) {
  CHECK_GE(first_step, 0);
  CHECK_GE(share.micro_batch, 1);
  CHECK(0 <= share.rank && share.rank < share.ranks) << share.rank << " of " << share.ranks;
  CHECK_EQ(share.global_batch % (share.micro_batch * share.ranks), 0)
      << share.global_batch << " over " << share.micro_batch << " x " << share.ranks;
  CHECK_EQ(sampler.num_sequences(), dataset.num_sequences());
  impl_ = std::make_unique<Impl>(dataset, sampler, first_step, share);
}

BatchLoader::~BatchLoader() = default;

absl::StatusOr<Batch> BatchLoader::Next() { return impl_->Next(); }

}  // namespace entrain
