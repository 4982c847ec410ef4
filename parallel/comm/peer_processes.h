// PeerProcesses: the processes of the other ranks on this host. The kernel says at once when one has ended, however it
// ended; of ranks on other hosts the beats tell (peer_monitor.h), later.
#ifndef ENTRAIN_PARALLEL_COMM_PEER_PROCESSES_H_
#define ENTRAIN_PARALLEL_COMM_PEER_PROCESSES_H_

#include <sys/types.h>

#include <optional>
#include <vector>

namespace entrain {

// A rank of the world and its process, by the number that it has for those who look from this process.
struct RankProcess {
  int rank = 0;
  pid_t process = 0;
};

class PeerProcesses {
 public:
  PeerProcesses() = default;
  // `here`: the ranks on this host, this one among them. A process that the kernel does not let us watch (before Linux 5.3,
  // or of another user) is left to its beats.
  PeerProcesses(int rank, const std::vector<RankProcess>& here);
  ~PeerProcesses();
  PeerProcesses(PeerProcesses&& other) noexcept;
  PeerProcesses& operator=(PeerProcesses&& other) noexcept;

  // The lowest rank here whose process has ended, if it is for this one to say so: the lowest that is left.
  std::optional<RankProcess> Lost() const;

 private:
  struct Watched {
    RankProcess peer;
    int descriptor = -1;
  };
  int rank_ = 0;
  std::vector<Watched> watched_;  // ascending
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_PEER_PROCESSES_H_
