// Heartbeat: <run>/heartbeat.json, by which somebody outside sees that a run lives and how far it is.
#ifndef ENTRAIN_LAUNCHER_HEARTBEAT_H_
#define ENTRAIN_LAUNCHER_HEARTBEAT_H_

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "launcher/watchdog.h"
#include "runtime/io/file_system.h"

namespace entrain {

// One JSON object: step, steps, loss (or null), phase, phase_seconds, last_commit (or null), time (UTC, RFC 3339),
// job_id (SLURM_JOB_ID, or null), host, pid, version. A `time` that stands still: the process is gone or stopped. A step
// that stands still: it hangs, or its steps are long.
std::string HeartbeatJson(const RunStatus& status, int64_t total_steps);

// <run_dir>/heartbeat.json. The last one of a run stays.
std::string HeartbeatPath(const std::string& run_dir);

// Writes it from a thread of its own, which a hanging file system may hold up: the watchdog must not be. Atomically, without
// a sync: it is of no use after a crash. A failure to write is not told: metrics and checkpoints meet it too.
class Heartbeat {
 public:
  // `watchdog` must outlive it.
  Heartbeat(FileSystem& fs, const std::string& run_dir, int64_t total_steps,
            const Watchdog& watchdog, std::chrono::milliseconds interval = std::chrono::seconds(5));
  // Writes a last time.
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

 private:
  void Run();
  void Write();

  FileSystem& fs_;
  std::string path_;
  int64_t total_steps_;
  const Watchdog& watchdog_;
  std::chrono::milliseconds interval_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_HEARTBEAT_H_
