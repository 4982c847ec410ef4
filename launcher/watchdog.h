// Watchdog: a thread that looks at a rank from outside. It ends one whose phase takes too long, and says where a rank was
// when its job was ended around it.
#ifndef ENTRAIN_LAUNCHER_WATCHDOG_H_
#define ENTRAIN_LAUNCHER_WATCHDOG_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "parallel/comm/communicator.h"
#include "runtime/base/enum_table.h"

namespace entrain {

// What a run is doing. Each has a deadline of its own.
enum class RunPhase { kStartup, kStep, kSave, kEnd };
inline constexpr EnumTable<RunPhase, 4> kRunPhaseNames{{{{RunPhase::kStartup, "startup"},
                                                         {RunPhase::kStep, "step"},
                                                         {RunPhase::kSave, "save"},
                                                         {RunPhase::kEnd, "end"}}}};

// What is known of a run at a moment.
struct RunStatus {
  RunPhase phase = RunPhase::kStartup;
  int64_t step = 0;  // optimizer steps done
  std::optional<double> loss;
  std::optional<int64_t> last_commit;  // step of the newest committed checkpoint
  std::string checkpoint;              // its path, "" without one
  double phase_seconds = 0.0;          // since the phase began
};

struct WatchdogOptions {
  std::string rank;  // "1 of 4 on node17"
  int rank_number = 0;
  // Deadlines in minutes by RunPhase (validation belongs to the step that it follows, the end to a save); 0: none.
  double startup_minutes = 0.0;
  double step_minutes = 0.0;
  double save_minutes = 0.0;
  // Of the world that the run is in.
  std::function<WorldOperation()> last_operation;
  // The first signal that came, 0 when none did.
  std::function<int()> received_signal;
  // Whether another rank has said already why the run ends, and ended it.
  std::function<bool()> is_told;
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
  void Committed(int64_t step, const std::string& path);
  RunStatus status() const;

 private:
  using Clock = std::chrono::steady_clock;

  void Run();
  double LimitMinutes(RunPhase phase) const;
  void CheckDeadline(const RunStatus& status) const;
  void CheckTermination(const RunStatus& status);
  std::string WhereIsIt(const RunStatus& status) const;

  const WatchdogOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  RunStatus status_;
  Clock::time_point entered_ = Clock::now();
  bool stopping_ = false;
  // Of the thread alone.
  std::optional<Clock::time_point> terminated_;
  bool termination_told_ = false;
  std::thread thread_;
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_WATCHDOG_H_
