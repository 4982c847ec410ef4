// Collectives on host memory, made of a transport's messages in one way for all backends: so threads and MPI processes
// give the same bits.
//
// Small vectors (≤ 8 KiB) are sent whole to everyone, and each rank reduces them all. Longer ones are reduced where they
// are owned, piece by piece in rank order (each rank sends every other its part of their ranges), then gathered: 2(n−1)/n
// of the vector through each rank, as a ring, but in two steps and in a fixed order of summation.
//
// Operations move on whenever somebody polls: the waiting caller, Poll between layers, or a progress thread.
#ifndef ENTRAIN_PARALLEL_COMM_COMMUNICATOR_HOST_H_
#define ENTRAIN_PARALLEL_COMM_COMMUNICATOR_HOST_H_

#include <memory>

#include "parallel/comm/communicator.h"
#include "parallel/comm/transport.h"

namespace entrain {

struct HostCommunicatorOptions {
  CommTimeouts timeouts;
  // Exchange beats with the ranks beside this one (peer_monitor.h), for timeouts.silence_seconds. All ranks alike.
  bool monitor_peers = false;
  // The engine's thread polls operations under way every so many microseconds; 0: no thread.
  int progress_microseconds = 0;
};

// The communicator of all ranks of the transport, named "world". Those split from it share transport and thread, which
// end with the last of them.
std::unique_ptr<Communicator> MakeHostCommunicator(std::unique_ptr<Transport> transport,
                                                   const HostCommunicatorOptions& options = {});

// A world of this process alone: what needs a communicator is the same code without a launcher.
std::unique_ptr<Communicator> MakeWorldOfOne();

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_COMMUNICATOR_HOST_H_
