#include "parallel/comm/peer_processes.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace entrain {
namespace {

// A descriptor that becomes readable when the process ends, and never means another one that gets its number later; -1
// when there is none to be had.
int OpenProcess(pid_t process) { return static_cast<int>(syscall(SYS_pidfd_open, process, 0)); }

bool HasEnded(int descriptor) {
  pollfd ask{.fd = descriptor, .events = POLLIN, .revents = 0};
  return poll(&ask, 1, 0) == 1 && (ask.revents & POLLIN) != 0;
}

}  // namespace

PeerProcesses::PeerProcesses(int rank, const std::vector<RankProcess>& here) : rank_(rank) {
  for (const RankProcess& peer : here) {
    const int descriptor = peer.rank == rank ? -1 : OpenProcess(peer.process);
    if (descriptor >= 0) watched_.push_back({peer, descriptor});
  }
  std::sort(watched_.begin(), watched_.end(),
            [](const Watched& a, const Watched& b) { return a.peer.rank < b.peer.rank; });
}

PeerProcesses::~PeerProcesses() {
  for (const Watched& watched : watched_) close(watched.descriptor);
}

PeerProcesses::PeerProcesses(PeerProcesses&& other) noexcept { *this = std::move(other); }

PeerProcesses& PeerProcesses::operator=(PeerProcesses&& other) noexcept {
  std::swap(rank_, other.rank_);
  std::swap(watched_, other.watched_);
  return *this;
}

std::optional<RankProcess> PeerProcesses::Lost() const {
  std::optional<RankProcess> lost;
  for (const Watched& watched : watched_) {
    if (HasEnded(watched.descriptor)) {
      if (!lost) lost = watched.peer;
    } else if (watched.peer.rank < rank_) {
      return std::nullopt;  // that one says it
    }
  }
  return lost;
}

}  // namespace entrain
