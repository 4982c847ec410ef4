// Watchdog: a thread that looks at a rank from outside. It ends one whose phase takes too long or whose neighbour's process
// is gone, and says where a rank was when its job was ended around it.
#ifndef ENTRAIN_LAUNCHER_WATCHDOG_H_
#define ENTRAIN_LAUNCHER_WATCHDOG_H_

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "launcher/run_status.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/peer_processes.h"
#include "runtime/base/clock.h"

namespace entrain {

struct WatchdogOptions {
  std::string rank;  // "1 of 4 on node17"
  int rank_number = 0;
  // Deadlines in minutes by RunPhase (validation belongs to the step that it follows, the end to a save); 0: none.
  double startup_minutes = 0.0;
  double step_minutes = 0.0;
  double save_minutes = 0.0;
  // Of the world that the run is in.
  std::function<WorldOperation()> last_operation = [] { return WorldOperation(); };
  // The first signal that came, 0 when none did.
  std::function<int()> received_signal = [] { return 0; };
  // A rank of this host that has ended, for this one to tell.
  std::function<std::optional<RankProcess>()> lost_rank = [] { return std::nullopt; };
  // Whether another rank has said already why the run ends, and ended it.
  std::function<bool()> is_told = [] { return false; };
};

class Watchdog {
 public:
  explicit Watchdog(WatchdogOptions options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // A phase begins; its time starts anew, also when it is the same one.
  void Enter(RunPhase phase);
  void StepDone(int64_t step, double loss);
  // Saved, or found there by a run that continues from it.
  void Committed(int64_t step, const std::string& path);
  RunStatus status() const;

 private:
  void Run();
  double LimitMinutes(RunPhase phase) const;
  void CheckDeadline(const RunStatus& status) const;
  void CheckPeers(const RunStatus& status) const;
  void CheckTermination(const RunStatus& status);

  const WatchdogOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  RunStatus status_;
  SteadyClock::time_point entered_ = SteadyClock::now();
  bool stopping_ = false;
  // Of the thread alone.
  std::optional<SteadyClock::time_point> terminated_;
  bool termination_told_ = false;
  std::thread thread_;
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_WATCHDOG_H_
