#include "parallel/comm/peer_processes.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

namespace entrain {
namespace {

// A process that does nothing until it is killed.
class IdleProcess {
 public:
  IdleProcess() : pid_(fork()) {
    if (pid_ == 0) {
      while (true) pause();
    }
  }
  ~IdleProcess() { End(); }
  IdleProcess(const IdleProcess&) = delete;
  IdleProcess& operator=(const IdleProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Its number is taken until it is waited for.
  void Kill() const {
    kill(pid_, SIGKILL);
    siginfo_t info;
    waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);
  }
  void End() {
    if (ended_) return;
    Kill();
    waitpid(pid_, nullptr, 0);
    ended_ = true;
  }

 private:
  pid_t pid_;
  bool ended_ = false;
};

TEST(PeerProcessesTest, WatchesNobodyAtFirst) {
  EXPECT_FALSE(PeerProcesses().Lost());
  EXPECT_FALSE(PeerProcesses(3, {{3, getpid()}}).Lost());
}

TEST(PeerProcessesTest, FindsOneThatHasEndedAtOnce) {
  IdleProcess peer;
  const PeerProcesses peers(0, {{0, getpid()}, {5, peer.pid()}});
  EXPECT_FALSE(peers.Lost());
  kill(peer.pid(), SIGSTOP);
  EXPECT_FALSE(peers.Lost()) << "it is only stopped";
  peer.Kill();  // nobody has waited for it yet
  ASSERT_TRUE(peers.Lost());
  EXPECT_EQ(peers.Lost()->rank, 5);
  EXPECT_EQ(peers.Lost()->process, peer.pid());
  peer.End();
  EXPECT_TRUE(peers.Lost());
}

TEST(PeerProcessesTest, TheLowestThatIsLeftSaysIt) {
  IdleProcess zero;
  IdleProcess two;
  const std::vector<RankProcess> here = {{2, two.pid()}, {1, getpid()}, {0, zero.pid()}};
  const PeerProcesses one(1, here);
  const PeerProcesses three(3, here);
  two.End();
  EXPECT_FALSE(one.Lost()) << "rank 0 is left and lower";
  zero.End();
  ASSERT_TRUE(one.Lost());
  EXPECT_EQ(one.Lost()->rank, 0) << "the lowest of those that are lost";
  EXPECT_FALSE(three.Lost()) << "rank 1 is left and lower";
}

TEST(PeerProcessesTest, MovesWithWhatItWatches) {
  IdleProcess peer;
  PeerProcesses first(0, {{1, peer.pid()}});
  PeerProcesses second;
  second = std::move(first);
  peer.End();
  EXPECT_TRUE(second.Lost());
}

}  // namespace
}  // namespace entrain
