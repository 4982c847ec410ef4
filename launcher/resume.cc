#include "launcher/resume.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "launcher/train_config_keys.h"

namespace entrain {
namespace {

constexpr char kInitFrom[] = "model.init_from";

absl::Status NothingToResume(const std::vector<DamagedCheckpoint>& damaged, bool older) {
  if (damaged.empty()) {
    return absl::NotFoundError(
        "--resume must: the run has no checkpoint; use --resume auto to start it");
  }
  return absl::DataLossError(absl::StrCat(
      "--resume must: the newest checkpoint is damaged: ", std::string(damaged[0].reason.message()),
      older ? "; --resume auto takes the next older one"
            : "; no older one can be used either: --resume auto starts afresh"));
}

absl::StatusOr<ResumePlan> PlanAuto(const CheckpointStore& store, bool must) {
  std::vector<DamagedCheckpoint> damaged;
  ResumePlan plan;
  const auto latest = store.FindLatest(&damaged);
  if (!latest.ok() && !absl::IsNotFound(latest.status())) return latest.status();
  if (must && (!latest.ok() || !damaged.empty())) return NothingToResume(damaged, latest.ok());
  for (const DamagedCheckpoint& bad : damaged) {
    plan.notices.push_back(
        absl::StrCat("damaged, passed over: ", std::string(bad.reason.message())));
  }
  if (latest.ok()) plan.checkpoint = *latest;
  return plan;
}

// Keys whose change would make a checkpoint mean something else.
bool IsFixed(const std::string& key) {
  if (key.rfind("model.entropy_regularizer.", 0) == 0) return false;
  if (key == "model.architecture") return false;
  return key.rfind("model.", 0) == 0 || key == "train.seed" || key == "train.global_batch" ||
         key == "data.shuffle";
}

}  // namespace

absl::StatusOr<ResumePolicy> ParseResumePolicy(const std::string& text) {
  if (text == "auto") return ResumePolicy{ResumeMode::kAuto};
  if (text == "never") return ResumePolicy{ResumeMode::kNever};
  if (text == "must") return ResumePolicy{ResumeMode::kMust};
  int64_t step = 0;
  if (absl::SimpleAtoi(text, &step) && step >= 1) return ResumePolicy{ResumeMode::kStep, step};
  return absl::InvalidArgumentError(
      absl::StrCat("--resume ", text, " is not auto, never, must or the number of a step >= 1"));
}

absl::StatusOr<ResumePlan> PlanResume(const CheckpointStore& store, const ResumePolicy& policy) {
  switch (policy.mode) {
    case ResumeMode::kAuto:
      return PlanAuto(store, false);
    case ResumeMode::kMust:
      return PlanAuto(store, true);
    case ResumeMode::kNever: {
      ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> there, store.List());
      if (there.empty()) return ResumePlan();
      return absl::FailedPreconditionError(
          absl::StrCat("--resume never: ", there.back().path,
                       " is there already; choose another run.dir, or --resume auto to continue"));
    }
    case ResumeMode::kStep: {
      ASSIGN_OR_RETURN(const CheckpointInfo info, store.Find(policy.step));
      return ResumePlan{.checkpoint = info};
    }
  }
  return absl::InternalError("unknown resume mode");
}

absl::Status CheckUnchanged(const TrainConfig& saved, const TrainCounters& saved_counters,
                            const TrainConfig& now, const std::string& data_fingerprint,
                            std::vector<std::string>* notices) {
  for (const TrainConfigKey& entry : TrainConfigKeys()) {
    const std::string key = absl::StrCat(entry.section, ".", entry.key.name);
    if (key == kInitFrom) continue;  // a checkpoint does not name where its weights first came from
    const std::string old = ToText(entry.key.get(saved));
    const std::string value = ToText(entry.key.get(now));
    if (old == value) continue;
    if (IsFixed(key)) {
      return absl::InvalidArgumentError(
          absl::StrCat(key, " = ", value, ", but the checkpoint was made with ", old,
                       "; set it back, or start another run (run.dir) with model.init_from an "
                       "export of this one"));
    }
    notices->push_back(
        absl::StrCat("changed since the checkpoint: ", key, " ", old, " -> ", value));
  }
  if (saved_counters.data_fingerprint != data_fingerprint) {
    return absl::InvalidArgumentError(
        absl::StrCat("data.train = \"", now.data.train,
                     "\" holds other tokens, or files of other names, than the checkpoint was "
                     "trained on (fingerprint ",
                     data_fingerprint, ", was ", saved_counters.data_fingerprint,
                     "); put the old files back under their names, or start another run with "
                     "model.init_from an export of this one"));
  }
  return absl::OkStatus();
}

absl::Status SupersedeAfter(FileSystem& fs, const CheckpointStore& store, int64_t step,
                            std::vector<std::string>* notices) {
  ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> all, store.List());
  for (const CheckpointInfo& info : all) {
    if (info.step <= step) continue;
    const std::string folder = ParentPath(info.path);
    std::string to = JoinPath(folder, absl::StrCat("superseded_", CheckpointName(info.step)));
    RETURN_IF_ERROR(fs.RemoveTree(to));
    RETURN_IF_ERROR(fs.Rename(info.path, to));
    notices->push_back(absl::StrCat("set aside as ", to, ": it lies after the step resumed from"));
  }
  return absl::OkStatus();
}

}  // namespace entrain
