// RunRequests: everything that asks a run to save, or to save and leave: signals, a limit of time, switch files in the
// run's folder, --stop-at. One rank's request is enough: what each sees is a number, and the largest one counts.
#ifndef ENTRAIN_LAUNCHER_RUN_REQUESTS_H_
#define ENTRAIN_LAUNCHER_RUN_REQUESTS_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "launcher/signals.h"
#include "runtime/base/status.h"
#include "runtime/io/file_system.h"

namespace entrain {

struct RunRequestOptions {
  std::string run_dir;
  // Whether this rank looks for switch files: one does for all.
  bool watches_files = true;
  int64_t stop_at = 0;              // leave after this step; 0: never
  double exit_after_minutes = 0.0;  // leave so long after the start; 0: never
  // Leave so long, and twice the longest step and save besides, before the end of the Slurm job.
  double exit_margin_seconds = 0.0;
  std::optional<int64_t> job_end;  // seconds since 1970: SLURM_JOB_END_TIME
  // The clock, for tests: seconds since 1970.
  std::function<double()> now;
};

// SLURM_JOB_END_TIME, unless it is not set or means none.
std::optional<int64_t> SlurmJobEnd(const std::optional<std::string>& variable);

class RunRequests {
 public:
  // The limit of time counts from here. While it lives, signals only set a flag (signals.h).
  RunRequests(FileSystem& fs, RunRequestOptions options);

  // What this rank is asked for between two steps. Numbers, so that the maximum over the ranks is what all do.
  struct Seen {
    int32_t leave = 0;  // 0: go on; else Reason tells why
    int32_t save = 0;   // 1: save now
  };
  // `longest_step`, `longest_save`: seconds, as far as is known.
  Seen Look(int64_t step, double longest_step, double longest_save);

  // "SIGUSR1", "the file STOP", "[run] exit_after_minutes = 30": of the largest `leave` of all ranks.
  std::string Reason(int32_t leave) const;

  // To be called when what was asked for is committed: takes the switch files away, so that the next start goes on.
  absl::Status Done(const Seen& all);

  int received_signal() const { return signals_.received(); }

 private:
  bool FileIsThere(const char* name) const;

  FileSystem& fs_;
  RunRequestOptions options_;
  double start_;
  StopSignals signals_;
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_RUN_REQUESTS_H_
