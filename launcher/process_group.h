// ProcessGroup: who started this process, and the world of ranks that it belongs to.
#ifndef ENTRAIN_LAUNCHER_PROCESS_GROUP_H_
#define ENTRAIN_LAUNCHER_PROCESS_GROUP_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "launcher/thread_plan.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/peer_processes.h"
#include "parallel/comm/transport_mpi.h"
#include "parallel/mesh.h"

namespace entrain {

// What the environment says of the launcher, before MPI is initialised.
struct LauncherFacts {
  std::string name;   // "mpirun", "srun --mpi=pmix", or "" when this process was started by itself
  int64_t ranks = 1;  // how many it says there are; 0: it does not say
  std::string evidence;  // "OMPI_COMM_WORLD_SIZE=4"
};

// Reads OMPI_COMM_WORLD_*, then PMIX_RANK, then SLURM_* of a real step. FailedPrecondition for a Slurm step of several
// tasks without PMIx: each task would train alone. `variable` gives an environment variable's value.
using EnvironmentLookup = std::function<std::optional<std::string>(const std::string& variable)>;
absl::StatusOr<LauncherFacts> FindLauncher(const EnvironmentLookup& variable);

// FailedPrecondition when Slurm's word on how many tasks there are, where it has one, is another than the world's size.
absl::Status CheckSlurm(const EnvironmentLookup& variable, int world);

// Whether this process is the one that speaks before the world is joined: the first rank, by the launcher's word.
bool SpeaksForAll(const EnvironmentLookup& variable);
// An error that all ranks have before they join: the first one tells it, on the others it comes back told, after a moment in
// which that one can, for when a rank leaves with an error its launcher ends the others.
absl::Status LeaveToTheFirst(absl::Status status);
EnvironmentLookup ProcessEnvironment();

struct ProcessGroup {
  std::unique_ptr<Communicator> world;
  LauncherFacts launcher;
  NodePlace place;
  PeerProcesses peers;
  std::string backend;  // "mpi (Open MPI v4.1.4)", "none (one rank)"

  // {4, "mpirun (OMPI_COMM_WORLD_SIZE=4)"}: for messages about the mesh.
  SourcedSize WorldSize() const;
  HostCores Cores() const;
};

// Joins the world: MPI's when there is a launcher, else one of this process alone. FailedPrecondition when MPI's world is
// not of the size that the launcher, or Slurm, says (an MPI that does not fit the launcher makes every rank a world of its
// own).
absl::StatusOr<ProcessGroup> JoinProcessGroup();

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_PROCESS_GROUP_H_
