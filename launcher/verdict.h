// verdict.json: how a run ended, for scripts that decide what to do next. Launchers rewrite exit
// codes; this stays.
#ifndef ENTRAIN_LAUNCHER_VERDICT_H_
#define ENTRAIN_LAUNCHER_VERDICT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "launcher/run_status.h"
#include "runtime/base/enum_table.h"
#include "runtime/base/status.h"
#include "runtime/io/file_system.h"

namespace entrain {

// The program's exit codes; 75 and 78 are EX_TEMPFAIL and EX_CONFIG of sysexits.h.
enum class ExitCode : int {
  kFinished = 0,
  kFailed = 1,
  kUsage = 2,
  kResubmit = 75,   // saved; start it again and it continues
  kBadConfig = 78,  // starting it again as it is will fail again
};
inline constexpr EnumTable<ExitCode, 5> kExitCodeNames{{{{ExitCode::kFinished, "finished"},
                                                         {ExitCode::kFailed, "failed"},
                                                         {ExitCode::kUsage, "usage"},
                                                         {ExitCode::kResubmit, "resubmit"},
                                                         {ExitCode::kBadConfig, "bad_config"}}}};

struct Verdict {
  ExitCode code = ExitCode::kFinished;
  std::string reason;  // for people: "finished 1000 steps", "SIGUSR1", the error's message
  int64_t step = 0;    // optimizer steps done
  std::optional<int64_t> last_commit;  // step of the newest committed checkpoint
  std::string checkpoint;              // its path, "" without one
};

Verdict VerdictOf(const RunStatus& status, ExitCode code, const std::string& reason);

// One JSON object: code, verdict (the code's name), reason, step, last_commit (or null), checkpoint
// (or null), version, host, pid, time (UTC, RFC 3339).
std::string ToJson(const Verdict& verdict);

// <run_dir>/verdict.json. There is none while the run goes on, nor after it was killed.
std::string VerdictPath(const std::string& run_dir);

// Writes it atomically; the folder must be there.
absl::Status WriteVerdict(FileSystem& fs, const std::string& run_dir, const Verdict& verdict);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_VERDICT_H_
