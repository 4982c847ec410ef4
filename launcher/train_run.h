// TrainRun: one run from start to verdict: set-up, the loop over steps, checkpoints, logging.
#ifndef ENTRAIN_LAUNCHER_TRAIN_RUN_H_
#define ENTRAIN_LAUNCHER_TRAIN_RUN_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/memory_plan.h"
#include "launcher/metrics.h"
#include "launcher/progress.h"
#include "launcher/resume.h"
#include "launcher/run_checkpoints.h"
#include "launcher/run_device.h"
#include "launcher/run_requests.h"
#include "launcher/thread_plan.h"
#include "launcher/train_config.h"
#include "launcher/trainer.h"
#include "launcher/tuning.h"
#include "launcher/verdict.h"
#include "launcher/watchdog.h"
#include "runtime/base/clock.h"

namespace entrain {

struct TrainRunOptions {
  ResumePolicy resume;
  ThreadPlan threads;  // of this rank
  bool launched =
      false;  // by mpirun or srun, which show every rank a terminal, whatever the output is
  std::string launcher;  // "mpirun (OMPI_COMM_WORLD_SIZE=4)": for the banner
  std::string backend;   // "mpi (Open MPI v4.1.4)"
  bool dry_run = false;
  std::optional<MeshShape> planned;  // of a dry run: another mesh than the one that there is
};

// Who asks a run to leave, and who watches it; both null in a dry run.
struct RunSupervision {
  RunRequests* requests = nullptr;
  Watchdog* watchdog = nullptr;
};

class TrainRun {
 public:
  // `mesh` and those who supervise it must outlive the run. Every rank makes one; all return the same status from SetUp and
  // Run.
  TrainRun(FileSystem& fs, TrainConfig config, TrainRunOptions options, const RunDevice& device,
           const Mesh& mesh, RunSupervision supervision);

  // Everything up to the first step: data, memory, model, values. Prints the banner. FailedPrecondition and the like are the
  // user's to mend.
  absl::Status SetUp();
  // Steps until the end, a request to leave, or too many non-finite steps. An error leaves the last commit as it is.
  absl::StatusOr<Verdict> Run();

 private:
  absl::Status UseTf32();
  absl::Status OpenAll();
  absl::Status OpenData();
  absl::Status CheckSameData();
  absl::Status FindResume();
  absl::Status OpenOutput();
  // Measures, where the run is to, and has memory for the result.
  absl::Status Tune(MemoryPlan& plan);
  absl::Status LoadValues();
  struct Resumed {
    CheckpointReader reader;
    TrainCounters counters;
  };
  // The checkpoint, which this run may continue from.
  absl::StatusOr<Resumed> OpenCheckpoint(const std::string& path);
  absl::Status Restore(const std::string& path);
  void PrintBanner(const MemoryPlan& plan) const;
  const MeshShape& Shape() const { return options_.planned ? *options_.planned : mesh_.shape(); }

  absl::StatusOr<Verdict> RunSteps();
  // After a step. Its one collective, a validation, comes before anything that can fail on one rank alone: such an error waits
  // for Exchange.
  absl::Status AfterStep(const StepReport& report);
  absl::Status Step();
  absl::Status LogStep(const StepReport& report, std::optional<double> validation_loss);
  absl::StatusOr<std::optional<double>> ValidateIfDue();
  absl::Status TooManyBadSteps(const StepReport& report) const;
  // The worst of the ranks' statuses and, if all are well, what any of them is asked for: the same on every rank.
  absl::StatusOr<RunRequests::Seen> Exchange(const absl::Status& mine);
  void TellSaved(const BackgroundSave& save, bool in_background);
  void Charge(const StepTimes& times);

  FileSystem& fs_;
  TrainConfig config_;
  TrainRunOptions options_;
  const RunDevice& device_;
  const Mesh& mesh_;
  std::optional<TokenDataset> train_data_;
  std::optional<TokenDataset> validation_data_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Trainer> trainer_;
  RunCheckpoints checkpoints_;
  RunTuning tuning_;
  std::vector<std::string> notices_;
  RunSupervision supervision_;
  std::optional<MetricsWriter> metrics_;
  std::unique_ptr<Progress> progress_;
  ComputedBy computed_by_;
  double gpu_peak_ = 0.0;  // of all ranks together
  SteadyClock::time_point start_;
  double last_log_seconds_ = 0.0;
  int64_t last_log_tokens_ = 0;
  StepTimes times_since_log_;
  StepTimes times_;            // of the run
  double longest_step_ = 0.0;  // seconds, with the validation after it
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TRAIN_RUN_H_
