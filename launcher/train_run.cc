#include "launcher/train_run.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/computed_by.h"
#include "launcher/device_limits.h"
#include "launcher/gpu_peak.h"
#include "launcher/model_files.h"
#include "launcher/same_everywhere.h"
#include "launcher/start_banner.h"
#include "launcher/state_on_host.h"
#include "model/step_cost.h"
#include "runtime/base/clock.h"
#include "runtime/data/tokenizer.h"
#include "runtime/kernels/matmul.h"

namespace entrain {
namespace {

bool Due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

}  // namespace

TrainRun::TrainRun(FileSystem& fs, TrainConfig config, TrainRunOptions options,
                   const RunDevice& device, const Mesh& mesh, RunSupervision supervision)
    : fs_(fs),
      config_(std::move(config)),
      options_(std::move(options)),
      device_(device),
      mesh_(mesh),
      checkpoints_(
          fs, config_, mesh,
          {.saved = [this](const BackgroundSave& save,
                           bool in_background) { TellSaved(save, in_background); },
           .lost = [this](double seconds) { Charge({.save = seconds}); },
           .warned = [this](const std::string& text) { progress_->Say("warning: " + text); }}),
      tuning_(fs, config_, *device.context, mesh.world()),
      supervision_(supervision) {}

// ---- set-up ----

absl::Status TrainRun::SetUp() {
  Communicator& world = mesh_.world();
  RETURN_IF_ERROR(world.Agree(OpenAll(), "opening data"));
  RETURN_IF_ERROR(CheckSameData());
  RETURN_IF_ERROR(CheckModelOnDevice(config_.model, device_.kind));
  MemoryPlan plan = PlanMemory(config_, Shape(), device_.kind, *model_);
  RETURN_IF_ERROR(FindResume());
  if (config_.train.tf32) RETURN_IF_ERROR(UseTf32());
  RETURN_IF_ERROR(CheckStepGraph(config_, device_.kind, Shape().world()));
  const std::string checkpoint = checkpoints_.last() ? checkpoints_.last()->path : "";
  RETURN_IF_ERROR(tuning_.Choose(
      Shape(), {.checkpoint = checkpoint, .dry_run = options_.dry_run, .on_cpu = device_.on_cpu}));
  plan.attention = tuning_.attention_bytes();
  if (options_.dry_run) {
    if (const auto& resumed = checkpoints_.last()) {
      RETURN_IF_ERROR(
          world.Agree(OpenCheckpoint(resumed->path).status(), "reading the checkpoint"));
    }
    PrintBanner(plan);
    return absl::OkStatus();
  }
  const std::vector<DeviceFacts> devices = FactsOfRanks(*device_.context, world);
  const DeviceRoom room = {.kind = device_.kind,
                           .free = FreeMemory(*device_.context),
                           .ranks = RanksOnDevice(devices, world.rank())};
  RETURN_IF_ERROR(world.Agree(CheckFits(plan, room, config_, mesh_.dp().size()), "taking memory"));
  AllocateForTraining(config_, *device_.context, mesh_, *model_);
  RETURN_IF_ERROR(Tune(plan));
  computed_by_ = WhatComputes(device_, world);
  gpu_peak_ = SumOfPeaks(devices);
  RETURN_IF_ERROR(world.Agree(LoadValues(), "loading values"));
  checkpoints_.Attach(*device_.context, *model_, *trainer_, computed_by_, *supervision_.watchdog);
  PrintBanner(plan);
  return world.Agree(OpenOutput(), "opening the run's files");
}

absl::Status TrainRun::UseTf32() {
  if (device_.kind == DeviceKind::kCpu) {
    return absl::InvalidArgumentError(
        absl::StrCat("train.tf32 = true is of GPUs, and ", device_.on_cpu, "; set it to false"));
  }
  if (device_.context->device() != DeviceKind::kCpu) AllowTf32(*device_.context);
  return absl::OkStatus();
}

absl::Status TrainRun::OpenAll() {
  RETURN_IF_ERROR(OpenData());
  const bool sequence_parallel = config_.parallel.sequence_parallel;
  model_ = std::make_unique<Model>(
      config_.model, options_.planned
                         ? TensorParallel::Planned(options_.planned->tp, sequence_parallel)
                         : TensorParallel(mesh_.device_tp(), sequence_parallel));
  return absl::OkStatus();
}

// One rank looks, so that all continue from the same checkpoint whatever each one's file system shows.
absl::Status TrainRun::FindResume() {
  Communicator& world = mesh_.world();
  absl::StatusOr<ResumePlan> plan = ResumePlan();
  if (mesh_.is_first()) plan = PlanResume(checkpoints_.store(), options_.resume);
  RETURN_IF_ERROR(world.Agree(plan.status(), "looking for checkpoints"));
  notices_ = std::move(plan->notices);
  std::string path = plan->checkpoint ? plan->checkpoint->path : "";
  world.BroadcastText(&path, 0, "the checkpoint to continue from");
  if (!path.empty()) {
    checkpoints_.ContinueFrom({CheckpointStep(path.substr(path.rfind('/') + 1)), path});
  }
  return absl::OkStatus();
}

absl::Status TrainRun::OpenOutput() {
  if (!mesh_.is_first()) return absl::OkStatus();
  RETURN_IF_ERROR(
      WriteTextAtomically(fs_, JoinPath(config_.run.dir, "config.toml"), ToToml(config_)));
  RETURN_IF_ERROR(tuning_.Write());
  ASSIGN_OR_RETURN(MetricsWriter metrics,
                   MetricsWriter::Open(fs_, JoinPath(config_.run.dir, "metrics.jsonl"),
                                       trainer_->counters().step));
  metrics_.emplace(std::move(metrics));
  return absl::OkStatus();
}

absl::Status TrainRun::OpenData() {
  // As many tokens as a fraction of a second suffices for: small sets whole, of large ones enough to notice another
  // tokenizer. The rest is checked as it is read.
  constexpr int64_t kCheckedTokens = int64_t{1} << 26;
  auto open = [&](const std::string& path) -> absl::StatusOr<TokenDataset> {
    ASSIGN_OR_RETURN(TokenDataset data,
                     TokenDataset::Open(fs_, path, config_.data.format, config_.model.context,
                                        config_.model.vocab));
    RETURN_IF_ERROR(data.CheckVocabulary(kCheckedTokens));
    return data;
  };
  // Training needs none, but whoever samples from the run will.
  const std::string& tokenizer = config_.data.tokenizer;
  const absl::Status named = tokenizer.empty() ? absl::OkStatus() : CheckTokenizerName(tokenizer);
  if (!named.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("data.tokenizer: ", named.message()));
  }
  ASSIGN_OR_RETURN(train_data_, open(config_.data.train));
  if (!config_.data.validation.empty()) {
    ASSIGN_OR_RETURN(validation_data_, open(config_.data.validation));
  }
  return absl::OkStatus();
}

absl::Status TrainRun::CheckSameData() {
  std::string text = absl::StrCat("[data.train] ", DescribeForComparison(*train_data_));
  if (validation_data_) {
    absl::StrAppend(&text, "\n[data.validation] ", DescribeForComparison(*validation_data_));
  }
  return CheckSameEverywhere(mesh_.world(), text, "the data",
                             "give all hosts the same token files");
}

absl::Status TrainRun::Tune(MemoryPlan& plan) {
  if (!tuning_.measures()) return absl::OkStatus();
  const int64_t taken = plan.parameters + plan.factors;  // by now
  RETURN_IF_ERROR(
      tuning_.Measure(*model_, mesh_, plan.on_device(device_.context->device()) - taken));
  plan.attention = tuning_.attention_bytes();
  return absl::OkStatus();
}

absl::Status TrainRun::LoadValues() {
  trainer_ = std::make_unique<Trainer>(config_, *device_.context, mesh_, *model_, *train_data_);
  if (const auto& resumed = checkpoints_.last()) {
    RETURN_IF_ERROR(Restore(resumed->path));
  } else if (!config_.init_from.empty()) {
    RETURN_IF_ERROR(ReadModelFolderWeights(
        fs_, config_.init_from, *device_.context, config_.train.seed, *model_,
        [&](const absl::Status& mine) { return mesh_.world().Agree(mine, "reading weights"); }));
  } else {
    model_->transformer().Initialize(*device_.context, config_.train.seed);
  }
  trainer_->Start();
  return absl::OkStatus();
}

absl::StatusOr<TrainRun::Resumed> TrainRun::OpenCheckpoint(const std::string& path) {
  // The first rank has verified all of it; every rank verifies what it reads.
  ASSIGN_OR_RETURN(CheckpointReader reader,
                   CheckpointReader::Open(fs_, path, Verification::kWhatIsRead));
  ASSIGN_OR_RETURN(const TrainConfig saved,
                   ParseTrainConfig(reader.config_toml(), JoinPath(path, "config.toml"), {}));
  ASSIGN_OR_RETURN(TrainCounters counters, ParseTrainCounters(reader.state_json(), path));
  RETURN_IF_ERROR(CheckUnchanged(saved, counters, config_, train_data_->fingerprint(), &notices_));
  // A dry run may be somewhere else than the run will be.
  const std::string otherwise =
      options_.dry_run ? "" : ComputedOtherwise(reader.computed_by(), computed_by_);
  if (!otherwise.empty()) notices_.push_back(otherwise);
  return Resumed{std::move(reader), std::move(counters)};
}

absl::Status TrainRun::Restore(const std::string& path) {
  ASSIGN_OR_RETURN(Resumed resumed, OpenCheckpoint(path));
  StateOnHost state(*device_.context, FullState(*model_, trainer_->optimizer()));
  RETURN_IF_ERROR(resumed.reader.Read(state.tensors()));
  state.Push();
  trainer_->counters() = std::move(resumed.counters);
  if (!mesh_.is_first()) return absl::OkStatus();
  return SupersedeAfter(fs_, checkpoints_.store(), trainer_->counters().step, &notices_);
}

void TrainRun::PrintBanner(const MemoryPlan& plan) const {
  std::vector<std::string> notices = notices_;
  notices.insert(notices.end(), tuning_.notices().begin(), tuning_.notices().end());
  const std::string text = StartBanner(
      {.config = config_,
       .model = *model_,
       .device = device_.description,
       .collectives = device_.collectives,
       .graph = ChooseStepGraph(config_, device_.kind, Shape().world()),
       .attention = tuning_.attention_text(),
       .tuning = tuning_.text(),
       .threads = options_.threads,
       .mesh = Shape(),
       .launcher = options_.launcher,
       .backend = options_.backend,
       .memory = plan,
       .communication = PlanCommunication(config_, Shape(), *model_),
       .available_memory =
           device_.kind == device_.context->device() ? FreeMemory(*device_.context) : -1,
       .train_data = *train_data_,
       .validation_data = validation_data_ ? &*validation_data_ : nullptr,
       .resumed_from = checkpoints_.last() ? checkpoints_.last()->path : "",
       .notices = std::move(notices)});
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

// ---- the loop ----

absl::StatusOr<Verdict> TrainRun::Run() {
  absl::StatusOr<Verdict> verdict = RunSteps();
  if (!verdict.ok()) checkpoints_.FinishOnError();
  return verdict;
}

absl::StatusOr<Verdict> TrainRun::RunSteps() {
  const int64_t first = trainer_->counters().step;
  progress_ = std::make_unique<Progress>(
      ProgressOptions{.first_step = first,
                      .total_steps = config_.train.steps,
                      .flops_per_token = TrainingFlopsPerToken(config_.model),
                      .on_gpu = device_.context->device() != DeviceKind::kCpu,
                      .terminal = options_.launched ? std::optional(false) : std::nullopt});
  start_ = SteadyClock::now();
  last_log_tokens_ = trainer_->counters().tokens;
  absl::Status mine;
  RunRequests::Seen asked;
  while (true) {
    supervision_.watchdog->Enter(RunPhase::kStep);
    // A checkpoint may lie beyond train.steps, when that was lowered since.
    const bool done = trainer_->counters().step >= config_.train.steps;
    if (mine.ok() && !done) mine = trainer_->ReadBatches();
    ASSIGN_OR_RETURN(asked, Exchange(mine));
    // Only when all ranks are known to be well: saving is one work of all.
    RETURN_IF_ERROR(checkpoints_.SaveAsAsked(asked));
    mine = supervision_.requests->Done(asked);
    if (done || asked.leave != 0) break;
    if (mine.ok()) mine = Step();
  }
  RETURN_IF_ERROR(mesh_.world().Agree(mine, "taking away a switch file"));
  progress_->Say("time: " + Describe(times_));
  progress_->Finish();
  const RunStatus status = supervision_.watchdog->status();
  if (asked.leave != 0 && status.step < config_.train.steps) {
    return VerdictOf(status, ExitCode::kResubmit, supervision_.requests->Reason(asked.leave));
  }
  return VerdictOf(status, ExitCode::kFinished, absl::StrCat("finished ", status.step, " steps"));
}

absl::Status TrainRun::Step() {
  const auto start = SteadyClock::now();
  absl::Status status = AfterStep(trainer_->Step());
  longest_step_ = std::max(longest_step_, SecondsSince(start));
  return status;
}

absl::StatusOr<RunRequests::Seen> TrainRun::Exchange(const absl::Status& mine) {
  const RunRequests::Seen seen = supervision_.requests->Look(
      trainer_->counters().step, longest_step_, checkpoints_.longest_seconds());
  int32_t flags[] = {mine.ok() ? 0 : 1, seen.leave, seen.save, checkpoints_.Saving() ? 1 : 0};
  mesh_.world().AllReduce({flags, DType::kI32, {4}}, ReduceOp::kMax, "start of a step");
  if (flags[0] != 0) return mesh_.world().Agree(mine, "an error");
  if (flags[3] == 0) RETURN_IF_ERROR(checkpoints_.Finish());
  return RunRequests::Seen{.leave = flags[1], .save = flags[2]};
}

absl::Status TrainRun::AfterStep(const StepReport& report) {
  const TrainCounters& counters = trainer_->counters();
  Charge(report.times);
  supervision_.watchdog->StepDone(counters.step, report.loss);
  progress_->Step(counters.step);
  if (!report.applied) {
    progress_->Say(absl::StrCat("step ", counters.step, ": not finite, update left out; first at ",
                                report.first_non_finite));
  }
  ASSIGN_OR_RETURN(const std::optional<double> validation_loss, ValidateIfDue());
  const bool last = counters.step == config_.train.steps;
  if (Due(config_.logging.every, counters.step) || last || !report.applied || validation_loss ||
      counters.step == 1) {
    RETURN_IF_ERROR(LogStep(report, validation_loss));
  }
  if (counters.bad_steps_in_a_row < config_.train.max_bad_steps) return absl::OkStatus();
  checkpoints_.FinishOnError();  // the message names the last checkpoint
  return TooManyBadSteps(report);
}

absl::StatusOr<std::optional<double>> TrainRun::ValidateIfDue() {
  const int64_t step = trainer_->counters().step;
  const bool last = config_.validation.every > 0 && step == config_.train.steps;
  if (!validation_data_ || !(Due(config_.validation.every, step) || last)) {
    return std::optional<double>();
  }
  ASSIGN_OR_RETURN(const Evaluation evaluation,
                   trainer_->Validate(*validation_data_, config_.validation.batches));
  return std::optional<double>(evaluation.loss);
}

absl::Status TrainRun::LogStep(const StepReport& report, std::optional<double> validation_loss) {
  const TrainCounters& counters = trainer_->counters();
  const double seconds = SecondsSince(start_);
  StepMetrics metrics{.step = counters.step,
                      .loss = report.loss,
                      .penalty = report.penalty,
                      .total = report.total,
                      .grad_norm = report.grad_norm,
                      .lr = report.lr,
                      .tokens = counters.tokens,
                      .seconds = seconds,
                      .skipped = !report.applied,
                      .entropy = EntropyMetricsOf(report.entropy, config_.model.context),
                      .validation_loss = validation_loss,
                      .times = std::exchange(times_since_log_, StepTimes())};
  metrics.tokens_per_second = static_cast<double>(counters.tokens - last_log_tokens_) /
                              std::max(seconds - last_log_seconds_, 1e-9);
  if (gpu_peak_ > 0.0) {
    const double flops = UsualFlopsPerToken(config_.model, model_->params().num_elements());
    metrics.mfu = flops * metrics.tokens_per_second / gpu_peak_;
  }
  if (model_->regularizer() != nullptr) {
    metrics.threshold = report.threshold;
    metrics.gate = report.gate;
  }
  last_log_seconds_ = seconds;
  last_log_tokens_ = counters.tokens;
  progress_->Log(metrics);
  return metrics_ ? metrics_->Append(metrics) : absl::OkStatus();
}

absl::Status TrainRun::TooManyBadSteps(const StepReport& report) const {
  const TrainCounters& counters = trainer_->counters();
  return absl::AbortedError(absl::StrCat(
      "stopped at step ", counters.step, ": ", counters.bad_steps_in_a_row,
      " steps in a row were not finite (train.max_bad_steps = ", config_.train.max_bad_steps,
      "); first non-finite value: ", report.first_non_finite,
      checkpoints_.last() ? ". The last checkpoint is " + checkpoints_.last()->path
                          : ". There is no checkpoint",
      ". Lower optimizer.lr, lengthen optimizer.warmup_steps, or resume from an older checkpoint "
      "with --resume STEP"));
}

void TrainRun::TellSaved(const BackgroundSave& save, bool in_background) {
  const std::string how =
      in_background ? absl::StrFormat(" (%.1f s in the background)", save.seconds) : "";
  progress_->Say("saved " + save.info.path + how);
}

void TrainRun::Charge(const StepTimes& times) {
  times_since_log_.Add(times);
  times_.Add(times);
}

}  // namespace entrain
