// MpiTransport: ranks that are processes, started by mpirun or srun --mpi=pmix. The only file that knows MPI.
#ifndef ENTRAIN_PARALLEL_COMM_TRANSPORT_MPI_H_
#define ENTRAIN_PARALLEL_COMM_TRANSPORT_MPI_H_

#include <memory>
#include <string>

#include "parallel/comm/peer_processes.h"
#include "parallel/comm/transport.h"
#include "runtime/base/status.h"

namespace entrain {

// Where a rank runs.
struct NodePlace {
  std::string host;
  int local_rank = 0;  // among the ranks on this host
  int local_size = 1;
  int cores = 0;  // that one or another of the ranks on this host may use
};

struct MpiWorld {
  std::unique_ptr<Transport> transport;
  NodePlace place;
  PeerProcesses peers;
  std::string version;  // "Open MPI v4.1.4"
};

// Initialises MPI; it is finalised when the transport ends. Once in a process. FailedPrecondition when the library does
// not let several threads take turns (MPI_THREAD_SERIALIZED). A launcher that is not there gives a world of one.
absl::StatusOr<MpiWorld> JoinMpiWorld();

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_TRANSPORT_MPI_H_
