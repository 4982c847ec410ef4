#include "launcher/verdict.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "launcher/host_name.h"
#include "launcher/utc_time.h"

namespace entrain {
Verdict VerdictOf(const RunStatus& status, ExitCode code, const std::string& reason) {
  return {.code = code,
          .reason = reason,
          .step = status.step,
          .last_commit = status.last_commit,
          .checkpoint = status.checkpoint};
}

std::string ToJson(const Verdict& verdict) {
  nlohmann::ordered_json json = {{"code", static_cast<int>(verdict.code)},
                                 {"verdict", kExitCodeNames.Name(verdict.code)},
                                 {"reason", verdict.reason},
                                 {"step", verdict.step},
                                 {"last_commit", nullptr},
                                 {"checkpoint", nullptr},
                                 {"version", ENTRAIN_VERSION},
                                 {"host", HostName()},
                                 {"pid", getpid()},
                                 {"time", UtcNow()}};
  if (verdict.last_commit) json["last_commit"] = *verdict.last_commit;
  if (!verdict.checkpoint.empty()) json["checkpoint"] = verdict.checkpoint;
  // A reason may quote a path of any bytes.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string VerdictPath(const std::string& run_dir) { return JoinPath(run_dir, "verdict.json"); }

absl::Status WriteVerdict(FileSystem& fs, const std::string& run_dir, const Verdict& verdict) {
  return WriteTextAtomically(fs, VerdictPath(run_dir), ToJson(verdict));
}

}  // namespace entrain
