#include "launcher/heartbeat.h"

#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "launcher/host_name.h"
#include "launcher/utc_time.h"

namespace entrain {
std::string HeartbeatJson(const RunStatus& status, int64_t total_steps) {
  nlohmann::ordered_json json = {{"step", status.step},
                                 {"steps", total_steps},
                                 {"loss", nullptr},
                                 {"phase", kRunPhaseNames.Name(status.phase)},
                                 {"phase_seconds", status.phase_seconds},
                                 {"last_commit", nullptr},
                                 {"time", UtcNow()},
                                 {"job_id", nullptr},
                                 {"host", HostName()},
                                 {"pid", getpid()},
                                 {"version", ENTRAIN_VERSION}};
  if (status.loss && std::isfinite(*status.loss)) json["loss"] = *status.loss;
  if (status.last_commit) json["last_commit"] = *status.last_commit;
  if (const char* job = std::getenv("SLURM_JOB_ID")) json["job_id"] = job;
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string HeartbeatPath(const std::string& run_dir) {
  return JoinPath(run_dir, "heartbeat.json");
}

Heartbeat::Heartbeat(FileSystem& fs, const std::string& run_dir, int64_t total_steps,
                     const Watchdog& watchdog, std::chrono::milliseconds interval)
    : fs_(fs),
      path_(HeartbeatPath(run_dir)),
      total_steps_(total_steps),
      watchdog_(watchdog),
      interval_(interval) {
  thread_ = std::thread([this] { Run(); });
}

Heartbeat::~Heartbeat() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
  Write();
}

void Heartbeat::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  do {
    lock.unlock();
    Write();
    lock.lock();
  } while (!wake_.wait_for(lock, interval_, [this] { return stopping_; }));
}

void Heartbeat::Write() {
  WriteTextUnsynced(fs_, path_, HeartbeatJson(watchdog_.status(), total_steps_)).IgnoreError();
}

}  // namespace entrain
