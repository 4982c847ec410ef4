// Resuming: which checkpoint a run continues from, and whether it may.
#ifndef ENTRAIN_LAUNCHER_RESUME_H_
#define ENTRAIN_LAUNCHER_RESUME_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/train_config.h"
#include "launcher/train_state.h"
#include "parallel/checkpoint.h"

namespace entrain {

enum class ResumeMode { kAuto, kNever, kMust, kStep };

struct ResumePolicy {
  ResumeMode mode = ResumeMode::kAuto;
  int64_t step = 0;  // of kStep
};

// "auto" (continue if there is a checkpoint), "never" (refuse if there is one), "must" (refuse if there is none, or if the
// newest is damaged), or a step number.
absl::StatusOr<ResumePolicy> ParseResumePolicy(const std::string& text);

struct ResumePlan {
  std::optional<CheckpointInfo> checkpoint;  // nothing: a fresh start
  std::vector<std::string> notices;          // for the banner
};
absl::StatusOr<ResumePlan> PlanResume(const CheckpointStore& store, const ResumePolicy& policy);

// A run may not change under way what would make its checkpoint mean something else: the model, the seed, the batch, the
// data. Refused with key, old and new value; any other difference becomes a notice.
absl::Status CheckUnchanged(const TrainConfig& saved, const TrainCounters& saved_counters,
                            const TrainConfig& now, const std::string& data_fingerprint,
                            std::vector<std::string>* notices);

// Checkpoints after `step` belong to a course that is being left: they are renamed to superseded_step_N, never read again.
absl::Status SupersedeAfter(FileSystem& fs, const CheckpointStore& store, int64_t step,
                            std::vector<std::string>* notices);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_RESUME_H_
