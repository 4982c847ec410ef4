// HostEngine: the transport of a process, the operations under way on it, and whoever moves them on: the waiting caller,
// Poll between layers, or the engine's own thread. One lock covers all calls of the transport, which needs no more of MPI
// than MPI_THREAD_SERIALIZED. Communicators of several threads may share it.
#ifndef ENTRAIN_PARALLEL_COMM_HOST_ENGINE_H_
#define ENTRAIN_PARALLEL_COMM_HOST_ENGINE_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "parallel/comm/communicator_host.h"
#include "parallel/comm/host_operation.h"
#include "parallel/comm/peer_monitor.h"

namespace entrain {

// An operation under way, as its waiter and the engine share it.
struct PendingOperation {
  std::unique_ptr<HostOperation> operation;
  std::string name;          // "gradient bucket 3 over dp"
  std::vector<int> members;  // ranks of the world, by the operation's ranks
  std::chrono::steady_clock::time_point begun;
  std::chrono::steady_clock::time_point finished;  // to be read when done
  std::atomic<bool> done = false;

  // Moves it on; true when it is done.
  bool Advance();
};

class HostEngine {
 public:
  HostEngine(std::unique_ptr<Transport> transport, const HostCommunicatorOptions& options);
  ~HostEngine();
  HostEngine(const HostEngine&) = delete;
  HostEngine& operator=(const HostEngine&) = delete;

  Transport& transport() { return *transport_; }

  // `make` is called under the lock.
  std::shared_ptr<PendingOperation> Start(
      std::string name, std::vector<int> members,
      const std::function<std::unique_ptr<HostOperation>()>& make);
  void Poll();
  // Returns when it is done, or ends the process after the time-out.
  void Wait(PendingOperation& pending);

  void SetTimeouts(const CommTimeouts& timeouts);
  WorldOperation LastOperation();

  // For a further communicator. At most kMaxCommunicators in all.
  int NextCommunicator();

 private:
  using Clock = std::chrono::steady_clock;

  void PollLocked();
  WorldOperation LastOperationLocked();
  WorldOperation LastStarted();
  int64_t MessagesOf(const PendingOperation& pending);
  // World ranks.
  static std::vector<int> AwaitedBy(const PendingOperation& pending);
  [[noreturn]] void TimeOut(const PendingOperation& pending);
  void RunThread();
  // How long the thread may sleep.
  std::chrono::microseconds Pause() const;
  void CheckPeer(Clock::time_point now);
  void SayFarewell();

  std::unique_ptr<Transport> transport_;
  const int progress_microseconds_;
  std::atomic<double> wait_seconds_;
  std::atomic<double> silence_seconds_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::list<std::shared_ptr<PendingOperation>> pending_;
  std::optional<PeerMonitor> monitor_;
  bool stopping_ = false;
  int communicators_ = 0;
  // Apart from the rest, so that it can be told while the lock is held for ever.
  std::mutex last_mutex_;
  WorldOperation last_started_;
  std::thread thread_;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_HOST_ENGINE_H_
