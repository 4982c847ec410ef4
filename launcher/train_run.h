// TrainRun: one run from start to verdict: set-up, the loop over steps, checkpoints, logging.
#ifndef ENTRAIN_LAUNCHER_TRAIN_RUN_H_
#define ENTRAIN_LAUNCHER_TRAIN_RUN_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/metrics.h"
#include "launcher/progress.h"
#include "launcher/resume.h"
#include "launcher/signals.h"
#include "launcher/train_config.h"
#include "launcher/trainer.h"
#include "launcher/verdict.h"
#include "parallel/checkpoint.h"

namespace entrain {

struct TrainRunOptions {
  ResumePolicy resume;
  bool dry_run = false;
  int64_t stop_at = 0;  // save and leave after this step, as on a signal; 0: never
};

class TrainRun {
 public:
  TrainRun(FileSystem& fs, const TrainConfig& config, const TrainRunOptions& options);

  // Everything up to the first step: data, memory, model, values. Prints the banner. FailedPrecondition and the like are the
  // user's to mend.
  absl::Status SetUp();
  // Steps until the end, a signal, or too many non-finite steps. An error leaves the last commit as it is.
  absl::StatusOr<Verdict> Run();

  // What is known of progress so far, for a verdict on an error.
  Verdict VerdictSoFar(ExitCode code, const std::string& reason) const;

 private:
  absl::Status OpenData();
  absl::Status CheckMemory(const MemoryPlan& plan) const;
  absl::Status LoadValues();
  absl::Status Restore(const CheckpointInfo& checkpoint);
  void PrintBanner(const MemoryPlan& plan) const;

  absl::Status AfterStep(const StepReport& report);
  absl::Status LogStep(const StepReport& report, std::optional<double> validation_loss);
  absl::StatusOr<std::optional<double>> ValidateIfDue();
  absl::Status TooManyBadSteps(const StepReport& report) const;
  absl::Status Save();
  std::optional<std::string> ReasonToLeave() const;

  FileSystem& fs_;
  TrainConfig config_;
  TrainRunOptions options_;
  std::unique_ptr<Context> context_;
  std::optional<TokenDataset> train_data_;
  std::optional<TokenDataset> validation_data_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Trainer> trainer_;
  CheckpointStore store_;
  std::optional<CheckpointInfo> last_commit_;
  std::vector<std::string> notices_;
  StopSignals signals_;
  std::optional<MetricsWriter> metrics_;
  std::unique_ptr<Progress> progress_;
  std::chrono::steady_clock::time_point start_;
  double last_log_seconds_ = 0.0;
  int64_t last_log_tokens_ = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TRAIN_RUN_H_
