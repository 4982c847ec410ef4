#include "launcher/verdict.h"

#include <unistd.h>

#include <array>
#include <ctime>
#include <nlohmann/json.hpp>

#include "launcher/host_name.h"

namespace entrain {
namespace {

std::string UtcNow() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  std::array<char, 32> text{};
  const size_t size =
      std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
  return {text.data(), size};
}

}  // namespace

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
