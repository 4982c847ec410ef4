#include "launcher/run_checkpoints.h"

#include <algorithm>
#include <utility>

#include "launcher/state_on_host.h"
#include "runtime/base/clock.h"

namespace entrain {

RunCheckpoints::RunCheckpoints(FileSystem& fs, const TrainConfig& config, const Mesh& mesh,
                               SaveListener listener)
    : config_(config),
      mesh_(mesh),
      listener_(std::move(listener)),
      store_(fs, JoinPath(config.run.dir, "checkpoints")),
      retention_{.keep = config.checkpoint.keep, .keep_every = config.checkpoint.keep_every} {}

void RunCheckpoints::Attach(Context& context, Model& model, Trainer& trainer,
                            const ComputedBy& computed_by, Watchdog& watchdog) {
  context_ = &context;
  model_ = &model;
  trainer_ = &trainer;
  computed_by_ = &computed_by;
  watchdog_ = &watchdog;
  if (last_) watchdog.Committed(last_->step, last_->path);
  if (!config_.checkpoint.background) return;
  saver_ = std::make_unique<BackgroundSaver>(context, mesh_.world(), store_, retention_,
                                             StateToWrite(model, trainer.optimizer(), mesh_));
}

absl::Status RunCheckpoints::SaveAsAsked(const RunRequests::Seen& asked) {
  const int64_t step = trainer_->counters().step;
  const bool last = asked.leave != 0 || step >= config_.train.steps;
  const bool wanted = last || (asked.save != 0 && step > 0);
  if (wanted) RETURN_IF_ERROR(Finish());
  if (last_ && last_->step == step) return absl::OkStatus();
  if (wanted) return Save();
  const int64_t every = config_.checkpoint.every;
  return step > 0 && every > 0 && step % every == 0 ? BeginSave() : absl::OkStatus();
}

absl::Status RunCheckpoints::Save() {
  watchdog_->Enter(RunPhase::kSave);
  const auto start = SteadyClock::now();
  CheckpointContents contents = Contents();
  StateOnHost state(*context_, std::move(contents.tensors));
  state.Pull();
  contents.tensors = state.tensors();
  BackgroundSave save{.info = {.step = contents.step}};
  ASSIGN_OR_RETURN(save.info.path, store_.Save(mesh_.world(), contents, retention_, &save.warning));
  save.seconds = SecondsSince(start);
  listener_.lost(save.seconds);
  Committed(save, false);
  return absl::OkStatus();
}

absl::Status RunCheckpoints::BeginSave() {
  if (saver_ == nullptr) return Save();
  RETURN_IF_ERROR(Finish());
  const auto start = SteadyClock::now();
  saver_->Start(Contents());
  listener_.lost(SecondsSince(start));
  return absl::OkStatus();
}

absl::Status RunCheckpoints::Finish() {
  if (saver_ == nullptr || !saver_->under_way()) return absl::OkStatus();
  watchdog_->Enter(RunPhase::kSave);
  const auto start = SteadyClock::now();
  const absl::StatusOr<BackgroundSave> save = saver_->Wait();
  listener_.lost(SecondsSince(start));
  RETURN_IF_ERROR(save.status());
  Committed(*save, true);
  return absl::OkStatus();
}

void RunCheckpoints::FinishOnError() {
  const absl::Status finished = Finish();
  if (finished.ok()) return;
  listener_.warned("the save under way failed: " + std::string(finished.message()));
}

void RunCheckpoints::Committed(const BackgroundSave& save, bool in_background) {
  last_ = save.info;
  longest_seconds_ = std::max(longest_seconds_, save.seconds);
  watchdog_->Committed(save.info.step, save.info.path);
  watchdog_->Enter(RunPhase::kStep);
  listener_.saved(save, in_background);
  if (!save.warning.empty()) listener_.warned(save.warning);
}

// The weights of a checkpoint are in it: where they first came from is nothing that it depends on. Every rank writes what it
// owns; the first adds what is not a tensor.
CheckpointContents RunCheckpoints::Contents() const {
  const TrainCounters& counters = trainer_->counters();
  CheckpointContents contents{.step = counters.step,
                              .tensors = StateToWrite(*model_, trainer_->optimizer(), mesh_)};
  if (mesh_.is_first()) {
    TrainConfig config = config_;
    config.init_from.clear();
    contents.state_json = ToJson(counters);
    contents.config_toml = ToToml(config);
    contents.computed_by = *computed_by_;
  }
  return contents;
}

}  // namespace entrain
