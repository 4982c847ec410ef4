// RunCheckpoints: a run's checkpoints: when one is saved, in the foreground or the background, and which one is the newest.
#ifndef ENTRAIN_LAUNCHER_RUN_CHECKPOINTS_H_
#define ENTRAIN_LAUNCHER_RUN_CHECKPOINTS_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "launcher/background_save.h"
#include "launcher/run_requests.h"
#include "launcher/train_config.h"
#include "launcher/trainer.h"
#include "launcher/watchdog.h"
#include "parallel/checkpoint.h"

namespace entrain {

// Who is told of saves: on every rank, by the thread that trains.
struct SaveListener {
  std::function<void(const BackgroundSave& save, bool in_background)> saved;
  std::function<void(double seconds)> lost;  // that training stood still for a save
  std::function<void(const std::string& warning)> warned;
};

// One on each rank. All of them call the same functions at the same points of their course, and get the same status.
class RunCheckpoints {
 public:
  // <run.dir>/checkpoints. `config` and `mesh` must outlive it.
  RunCheckpoints(FileSystem& fs, const TrainConfig& config, const Mesh& mesh,
                 SaveListener listener);

  CheckpointStore& store() { return store_; }
  // The newest that is committed, as far as this run knows: the one that it continues from, then its own.
  const std::optional<CheckpointInfo>& last() const { return last_; }
  void ContinueFrom(CheckpointInfo checkpoint) { last_ = std::move(checkpoint); }

  // What is to be saved, what computes it and who watches; all must outlive it. With checkpoint.background takes the memory of
  // the copy.
  void Attach(Context& context, Model& model, Trainer& trainer, const ComputedBy& computed_by,
              Watchdog& watchdog);

  // Between two steps. Who asks for a checkpoint, or leaves, waits until it is committed; one that only falls due may take its
  // time.
  absl::Status SaveAsAsked(const RunRequests::Seen& asked);
  // A save is under way on this rank.
  bool Saving() const { return saver_ != nullptr && !saver_->Done(); }
  // Waits for the save under way, if there is one.
  absl::Status Finish();
  // The same on the way out with another error, beside which a save's own is only a warning.
  void FinishOnError();
  // Seconds of the longest save, 0 before the first.
  double longest_seconds() const { return longest_seconds_; }

 private:
  CheckpointContents Contents() const;
  absl::Status Save();
  // Begins to save in the background, when the save before has ended; without that, saves.
  absl::Status BeginSave();
  void Committed(const BackgroundSave& save, bool in_background);

  const TrainConfig& config_;
  const Mesh& mesh_;
  SaveListener listener_;
  CheckpointStore store_;
  RetentionPolicy retention_;
  std::optional<CheckpointInfo> last_;
  double longest_seconds_ = 0.0;
  Context* context_ = nullptr;
  Model* model_ = nullptr;
  Trainer* trainer_ = nullptr;
  const ComputedBy* computed_by_ = nullptr;
  Watchdog* watchdog_ = nullptr;
  std::unique_ptr<BackgroundSaver> saver_;  // with checkpoint.background
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_RUN_CHECKPOINTS_H_
