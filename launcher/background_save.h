// BackgroundSaver: writes checkpoints on a thread of its own, from a copy of the state, while training goes on.
#ifndef ENTRAIN_LAUNCHER_BACKGROUND_SAVE_H_
#define ENTRAIN_LAUNCHER_BACKGROUND_SAVE_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/checkpoint.h"
#include "runtime/device/buffer.h"
#include "runtime/device/context.h"

namespace entrain {

// A committed checkpoint, and what is to be told of its save.
struct BackgroundSave {
  CheckpointInfo info;
  std::string warning;   // of rank 0: an old checkpoint could not be removed
  double seconds = 0.0;  // that the save took
};

// One on each rank. All ranks start and wait at the same points of their course; for one thread, the training loop's. The
// saves are collectives over a communicator of their own, so that they mix with training's in no order.
class BackgroundSaver {
 public:
  // Collective over `world`. `context` and `store` must outlive the saver. The memory for copies, of `tensors` and of others
  // of the same size, is taken here.
  BackgroundSaver(Context& context, Communicator& world, CheckpointStore& store,
                  const RetentionPolicy& retention, const std::vector<StateTensor>& tensors);
  // Waits for the save under way.
  ~BackgroundSaver();
  BackgroundSaver(const BackgroundSaver&) = delete;
  BackgroundSaver& operator=(const BackgroundSaver&) = delete;

  // Copies what the tensors hold and begins to save it; the originals may change afterwards. None may be under way.
  void Start(CheckpointContents contents);
  // From Start to Wait, whether or not it has ended.
  bool under_way() const { return under_way_; }
  // Wait would not wait, as far as this rank knows: others may still be at work.
  bool Done() const;
  // The end of the save under way: what CheckpointStore::Save gave, the same status on every rank.
  absl::StatusOr<BackgroundSave> Wait();

 private:
  void RunThread();
  absl::StatusOr<BackgroundSave> Save();

  Context& context_;                    // of the training loop
  std::unique_ptr<Communicator> comm_;  // of the thread alone
  CheckpointStore& store_;
  RetentionPolicy retention_;
  Buffer memory_;
  CheckpointContents snapshot_;  // in memory_; from Start to the save's end the thread's
  bool under_way_ = false;       // of the training loop

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  bool saving_ = false;
  bool stopping_ = false;
  absl::StatusOr<BackgroundSave> result_;
  std::thread thread_;
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_BACKGROUND_SAVE_H_
