#include "launcher/process_group.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "launcher/exit_status.h"
#include "parallel/comm/communicator_host.h"
#include "runtime/device/context.h"

namespace entrain {
namespace {

std::optional<int64_t> Number(const EnvironmentLookup& variable, const std::string& name) {
  const std::optional<std::string> text = variable(name);
  int64_t value = 0;
  if (!text || !absl::SimpleAtoi(*text, &value)) return std::nullopt;
  return value;
}

// Told by one rank before MPI ends, for which all wait: after that a rank that leaves with an error has its launcher end the
// one that speaks.
absl::Status Refuse(absl::Status status) {
  return SpeaksForAll(ProcessEnvironment()) ? Tell(std::move(status))
                                            : MarkAsTold(std::move(status));
}

}  // namespace

absl::StatusOr<LauncherFacts> FindLauncher(const EnvironmentLookup& variable) {
  if (const auto size = Number(variable, "OMPI_COMM_WORLD_SIZE")) {
    return LauncherFacts{"mpirun", *size, absl::StrCat("OMPI_COMM_WORLD_SIZE=", *size)};
  }
  const std::optional<int64_t> tasks = Number(variable, "SLURM_NTASKS");
  if (variable("PMIX_RANK")) {
    return LauncherFacts{"srun --mpi=pmix", tasks.value_or(0),
                         tasks ? absl::StrCat("SLURM_NTASKS=", *tasks) : "PMIX_RANK"};
  }
  // A batch script sees SLURM_NTASKS too, but only a real step has a number.
  if (Number(variable, "SLURM_STEP_ID") && tasks.value_or(1) > 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("srun started ", *tasks,
                     " tasks without PMIx, and each would train alone: use srun --mpi=pmix"));
  }
  return LauncherFacts{};
}

absl::Status CheckSlurm(const EnvironmentLookup& variable, int world) {
  // Where mpirun is not itself it starts ranks by a daemon, which is a task of a step that has one a host.
  if (variable("OMPI_COMM_WORLD_SIZE") && Number(variable, "SLURM_STEP_ID"))
    return absl::OkStatus();
  const std::optional<int64_t> tasks = Number(variable, "SLURM_NTASKS");
  if (!tasks || *tasks == world) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("SLURM_NTASKS=", *tasks, ", but this world has ", world,
                   world == 1 ? " rank" : " ranks", ": start it with srun --mpi=pmix or mpirun -n ",
                   *tasks, ", or unset SLURM_NTASKS if a smaller world is meant"));
}

bool SpeaksForAll(const EnvironmentLookup& variable) {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"}) {
    if (const auto rank = Number(variable, name)) return *rank == 0;
  }
  if (!Number(variable, "SLURM_STEP_ID")) return true;
  return Number(variable, "SLURM_PROCID").value_or(0) == 0;
}

absl::Status LeaveToTheFirst(absl::Status status) {
  if (status.ok() || SpeaksForAll(ProcessEnvironment())) return status;
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  return MarkAsTold(std::move(status));
}

EnvironmentLookup ProcessEnvironment() {
  return [](const std::string& variable) -> std::optional<std::string> {
    const char* value = std::getenv(variable.c_str());
    if (value == nullptr) return std::nullopt;
    return value;
  };
}

SourcedSize ProcessGroup::WorldSize() const {
  return {world->size(), launcher.name.empty()
                             ? "one process without a launcher"
                             : absl::StrCat(launcher.name, " (", launcher.evidence, ")")};
}

HostCores ProcessGroup::Cores() const {
  const int mine = Context::AllowedCores();
  return {.mine = mine,
          .of_ours = std::max(mine, place.cores),
          .of_host = std::max(mine, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN))),
          .ranks = place.local_size};
}

absl::StatusOr<ProcessGroup> JoinProcessGroup() {
  ProcessGroup group;
  ASSIGN_OR_RETURN(group.launcher, FindLauncher(ProcessEnvironment()));
  if (group.launcher.name.empty()) {
    RETURN_IF_ERROR(CheckSlurm(ProcessEnvironment(), 1));
    group.world = MakeWorldOfOne();
    group.backend = "none (one rank)";
    return group;
  }
  ASSIGN_OR_RETURN(MpiWorld mpi, JoinMpiWorld());
  const int size = mpi.transport->size();
  const LauncherFacts& launcher = group.launcher;
  if (launcher.ranks != 0 && launcher.ranks != size) {
    return Refuse(absl::FailedPreconditionError(absl::StrCat(
        launcher.name, " says ", launcher.evidence, ", but MPI (", mpi.version,
        ") sees a world of ", size,
        ": the program's MPI does not fit the launcher; use the launcher of the same MPI")));
  }
  RETURN_IF_ERROR(Refuse(CheckSlurm(ProcessEnvironment(), size)));
  group.place = mpi.place;
  group.peers = std::move(mpi.peers);
  group.backend = absl::StrCat("mpi (", mpi.version, ")");
  group.world = MakeHostCommunicator(std::move(mpi.transport), {.monitor_peers = true});
  return group;
}

}  // namespace entrain
