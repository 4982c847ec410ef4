// entrain train: the command line of a run, its lock, and its verdict on every way out.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launcher/command_line.h"
#include "launcher/commands.h"
#include "launcher/exit_status.h"
#include "launcher/heartbeat.h"
#include "launcher/host_name.h"
#include "launcher/process_group.h"
#include "launcher/run_device.h"
#include "launcher/run_lock.h"
#include "launcher/run_requests.h"
#include "launcher/same_everywhere.h"
#include "launcher/standard_output.h"
#include "launcher/train_run.h"
#include "launcher/watchdog.h"
#include "parallel/comm/rank_failure.h"

namespace entrain {
namespace {

struct TrainOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string resume = "auto";
  int64_t ranks = 0;  // of a dry run's mesh; 0: those that there are
  int64_t stop_at = 0;
  TrainRunOptions run;
  bool help_config = false;
};

absl::Status Leave(FileSystem& fs, const std::string& run_dir, const Verdict& verdict) {
  RETURN_IF_ERROR(WriteVerdict(fs, run_dir, verdict));
  std::printf("%s (step %lld); verdict in %s\n", verdict.reason.c_str(),
              static_cast<long long>(verdict.step), VerdictPath(run_dir).c_str());
  if (verdict.code == ExitCode::kResubmit) {
    return absl::CancelledError("saved; start the same command again to continue");
  }
  return absl::OkStatus();
}

// The mesh over the ranks that there are; the global batch must divide over it.
absl::StatusOr<MeshShape> ShapeOf(const TrainConfig& config, const SourcedSize& world) {
  const ParallelSection& p = config.parallel;
  ASSIGN_OR_RETURN(const MeshShape shape,
                   ResolveMesh(world, {p.dp, absl::StrCat("parallel.dp = ", p.dp)},
                               {p.tp, absl::StrCat("parallel.tp = ", p.tp)}));
  const TrainSection& t = config.train;
  const int64_t unit = shape.dp * std::max<int64_t>(t.micro_batch, 1);
  const int64_t rows = config.micro_batch(shape.dp) * config.model.context;
  if (t.global_batch % unit == 0 && rows % shape.tp != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "parallel.tp = ", shape.tp, ": must divide the rows of a micro-step, ", rows, " = ",
        config.micro_batch(shape.dp), " sequences x model.context ", config.model.context));
  }
  if (t.global_batch % unit == 0) return shape;
  return absl::InvalidArgumentError(
      absl::StrCat("train.global_batch = ", t.global_batch, ": must be a multiple of ", unit, " = ",
                   shape.dp, " data-parallel ranks (", world.source, ") x train.micro_batch ",
                   std::max<int64_t>(t.micro_batch, 1)));
}

// A run that is killed writes no verdict: that of the run before would be taken for its own.
absl::Status RemoveOldVerdict(FileSystem& fs, const std::string& dir) {
  const absl::Status removed = fs.RemoveFile(VerdictPath(dir));
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

// The first rank holds the run's lock for all.
absl::Status LockRun(FileSystem& fs, const std::string& dir, const Mesh& mesh,
                     std::optional<RunLock>* lock) {
  absl::Status status;
  if (mesh.is_first()) {
    absl::StatusOr<RunLock> acquired = RunLock::Acquire(fs, dir);
    status = acquired.status();
    if (acquired.ok()) {
      lock->emplace(*std::move(acquired));
      status = RemoveOldVerdict(fs, dir);
    }
  }
  return mesh.world().Agree(status, "locking the run");
}

// What every rank must have been started with.
std::string StartedWith(const TrainConfig& config, const TrainOptions& options) {
  return absl::StrCat(ToToml(config), "\n[command line]\n--resume ", options.resume, "\n--stop-at ",
                      options.stop_at, "\n--dry-run ", options.run.dry_run,
                      "\n\n[program]\nversion ", ENTRAIN_VERSION, "\n");
}

RunRequestOptions RequestsOf(const TrainConfig& config, const TrainOptions& options, bool first) {
  return {.run_dir = config.run.dir,
          .watches_files = first,
          .stop_at = options.stop_at,
          .exit_after_minutes = config.run.exit_after_minutes,
          .exit_margin_seconds = config.run.exit_margin_seconds,
          .job_end = SlurmJobEnd(ProcessEnvironment()("SLURM_JOB_END_TIME"))};
}

WatchdogOptions WatchdogOf(FileSystem& fs, const TrainConfig& config, const Mesh& mesh,
                           const PeerProcesses& peers, const RunRequests& requests) {
  const Communicator& world = mesh.world();
  return {.rank = absl::StrCat(world.rank(), " of ", world.size(), " on ", HostName()),
          .rank_number = world.rank(),
          .startup_minutes = config.run.startup_timeout_minutes,
          .step_minutes = config.run.step_timeout_minutes,
          .save_minutes = config.run.save_timeout_minutes,
          .last_operation = [&mesh] { return mesh.LastOperation(); },
          .received_signal = [&requests] { return requests.received_signal(); },
          .lost_rank = [&peers] { return peers.Lost(); },
          .is_told =
              [&fs, verdict = VerdictPath(config.run.dir)] {
                const absl::StatusOr<bool> exists = fs.Exists(verdict);
                return exists.ok() && *exists;
              }};
}

// While it lives, a rank that fails alone leaves a verdict.
class VerdictOnFailure {
 public:
  VerdictOnFailure(FileSystem& fs, const std::string& dir, const Watchdog& watchdog) {
    SetFailureHook([&fs, dir, &watchdog](const std::string& message) {
      WriteVerdict(fs, dir, VerdictOf(watchdog.status(), ExitCode::kFailed, message)).IgnoreError();
    });
  }
  ~VerdictOnFailure() { SetFailureHook({}); }
  VerdictOnFailure(const VerdictOnFailure&) = delete;
  VerdictOnFailure& operator=(const VerdictOnFailure&) = delete;
};

// From the lock to the verdict. Every rank returns the same status.
absl::Status RunToVerdict(FileSystem& fs, const TrainConfig& config, const TrainOptions& options,
                          const RunDevice& device, const Mesh& mesh, const PeerProcesses& peers) {
  const std::string& dir = config.run.dir;
  std::optional<RunLock> lock;
  RETURN_IF_ERROR(LockRun(fs, dir, mesh, &lock));
  RunRequests requests(fs, RequestsOf(config, options, mesh.is_first()));
  Watchdog watchdog(WatchdogOf(fs, config, mesh, peers, requests));
  const VerdictOnFailure verdict_on_failure(fs, dir, watchdog);
  std::optional<Heartbeat> heartbeat;
  if (mesh.is_first()) heartbeat.emplace(fs, dir, config.train.steps, watchdog);

  TrainRun run(fs, config, options.run, device, mesh, {&requests, &watchdog});
  absl::Status status = run.SetUp();
  if (status.ok()) {
    const absl::StatusOr<Verdict> verdict = run.Run();
    watchdog.Enter(RunPhase::kEnd);
    if (verdict.ok()) {
      return mesh.world().Agree(mesh.is_first() ? Leave(fs, dir, *verdict) : absl::OkStatus(),
                                "writing the verdict");
    }
    status = verdict.status();
  }
  // The error itself matters more than a verdict that could not be written.
  if (mesh.is_first()) {
    WriteVerdict(fs, dir,
                 VerdictOf(watchdog.status(), ExitCodeOf(status), std::string(status.message())))
        .IgnoreError();
  }
  return status;
}

// Every rank returns the same status. `device` and, over it, `made`: the mesh; the caller ends both.
absl::Status TrainInGroup(TrainOptions options, ProcessGroup& group, RunDevice* device,
                          std::optional<Mesh>* made) {
  FileSystem& fs = FileSystem::Posix();
  const absl::StatusOr<ResumePolicy> resume = ParseResumePolicy(options.resume);
  const absl::StatusOr<TrainConfig> config = LoadTrainConfig(options.config, options.overrides);
  absl::Status given = resume.status();
  given.Update(config.status());
  RETURN_IF_ERROR(group.world->Agree(given, "reading the configuration"));
  options.run.resume = *resume;
  RETURN_IF_ERROR(CheckSameEverywhere(*group.world, StartedWith(*config, options),
                                      "the configuration",
                                      "start all ranks with the same configuration and options"));
  const ParallelSection& p = config->parallel;
  const CommTimeouts timeouts{.wait_seconds = p.wait_timeout_seconds,
                              .silence_seconds = p.peer_timeout_seconds};
  group.world->SetTimeouts(timeouts);
  options.run.threads = PlanThreads(config->train.threads, group.Cores(), group.launcher.name);
  MeshShape shape;
  if (options.ranks > 0) {
    options.run.threads.notes.clear();  // of this host, on which it will not run
    const SourcedSize planned{options.ranks, absl::StrCat("--ranks ", options.ranks)};
    ASSIGN_OR_RETURN(options.run.planned, ShapeOf(*config, planned));
    options.run.launcher = planned.source;
    options.run.backend = "planned";
  } else {
    ASSIGN_OR_RETURN(shape, ShapeOf(*config, group.WorldSize()));
    options.run.launcher = group.WorldSize().source;
    options.run.backend = group.backend;
  }
  options.run.launched = !group.launcher.name.empty();
  ASSIGN_OR_RETURN(*device, ChooseRunDevice(config->train.device, *group.world,
                                            {.threads = options.run.threads.threads,
                                             .local_rank = group.place.local_rank,
                                             .only_planned = options.run.dry_run,
                                             .backend = p.backend,
                                             .timeouts = timeouts}));
  const Mesh& mesh = made->emplace(std::move(group.world), shape, device->collectives);
  if (!options.run.dry_run) return RunToVerdict(fs, *config, options, *device, mesh, group.peers);
  // No trace: no folder, no lock, no verdict.
  return TrainRun(fs, *config, options.run, *device, mesh, {}).SetUp();
}

absl::Status RunTrain(const TrainOptions& options) {
  if (options.help_config) {
    std::fputs(DescribeConfigKeys().c_str(), stdout);
    return FlushStandardOutput();
  }
  if (options.ranks > 0 && !options.run.dry_run) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--ranks ", options.ranks,
        " plans a mesh and needs --dry-run; a run's ranks are started by mpirun or srun"));
  }
  absl::StatusOr<ProcessGroup> group = JoinProcessGroup();
  if (group.ok() && options.ranks > 0 && group->world->size() > 1) {
    absl::Status refused = absl::InvalidArgumentError(
        "--ranks plans a mesh from one process; start it without mpirun");
    return group->world->rank() == 0 ? Tell(refused) : MarkAsTold(refused);
  }
  if (!group.ok()) return LeaveToTheFirst(group.status());
  // One voice: the first rank's.
  const bool speaks = group->world->rank() == 0;
  if (!speaks && std::freopen("/dev/null", "w", stdout) == nullptr) {
    return absl::InternalError("cannot open /dev/null");
  }
  // The error is told before MPI ends with the mesh: from then on a rank that leaves with an error has its launcher kill the
  // others, and the one that speaks may be among them.
  RunDevice device;
  std::optional<Mesh> mesh;
  absl::Status status = TrainInGroup(options, *group, &device, &mesh);
  return speaks ? Tell(std::move(status)) : MarkAsTold(std::move(status));
}

}  // namespace

void AddTrainCommand(CLI::App& app, SelectedCommand* selected) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* command = app.add_subcommand("train", "Train a model, or continue a run");
  CLI::Option* config =
      command->add_option("--config", options->config, "Configuration file (TOML)");
  command->add_option("--set", options->overrides,
                      "section.key=value, over the file; may be given many times");
  command
      ->add_option(
          "--resume", options->resume,
          "auto: continue if there is a checkpoint; never: refuse if there is one; must: refuse "
          "if there is none; or the number of a step")
      ->capture_default_str();
  command->add_flag("--dry-run", options->run.dry_run,
                    "Check configuration and data, print the memory it would take, and stop");
  command
      ->add_option("--stop-at", options->stop_at,
                   "Save and leave (exit code 75) after this step; 0: run to the end")
      ->check(IntegerFrom(0))
      ->capture_default_str();
  command
      ->add_option(
          "--ranks", options->ranks,
          "With --dry-run: the memory, shapes and communication of a mesh of so many ranks")
      ->check(IntegerFrom(1, 1 << 20));
  CLI::Option* help = command->add_flag("--help-config", options->help_config,
                                        "Every configuration key with its default and meaning");
  command->footer(
      "Exit codes: 0 finished; 75 saved, start it again; 78 bad configuration; 2 bad command line; "
      "1 any "
      "other failure. They are also in <run.dir>/verdict.json.");
  command->callback([options, selected, config, help] {
    if (config->count() == 0 && help->count() == 0) throw CLI::RequiredError("--config");
    *selected = [options] { return RunTrain(*options); };
  });
}

}  // namespace entrain
