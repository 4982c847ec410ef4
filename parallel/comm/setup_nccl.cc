#include <nccl.h>

#include <cstdlib>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "parallel/comm/communicator_nccl.h"
#include "parallel/comm/library_nccl.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

struct Setting {
  const char* name;
  const char* value;
  bool only_deterministic;
};
constexpr Setting kSettings[] = {
    // Communicators of one process may be busy at a time, in the order of their calls.
    {"NCCL_LAUNCH_ORDER_IMPLICIT", "1", false},
    // Sums in the switch do not repeat their bits.
    {"NCCL_NVLS_ENABLE", "0", true},
    {"NCCL_ALGO", "Ring", true},
    {"NCCL_PROTO", "Simple", true},
};

struct Value {
  std::string text;  // "NCCL_ALGO=Ring"
  bool is_ours;
};

// Sets what the user has not.
std::vector<Value> SetAll(bool deterministic) {
  static std::mutex mutex;  // ranks may be threads of one process
  static std::set<std::string> ours;
  const std::lock_guard<std::mutex> lock(mutex);
  std::vector<Value> values;
  for (const Setting& setting : kSettings) {
    if (setting.only_deterministic && !deterministic) continue;
    const char* now = std::getenv(setting.name);
    const bool is_ours =
        now == nullptr || (ours.count(setting.name) > 0 && now == std::string(setting.value));
    if (is_ours) {
      setenv(setting.name, setting.value, /*replace=*/1);
      ours.insert(setting.name);
    }
    values.push_back({absl::StrCat(setting.name, "=", std::getenv(setting.name)), is_ours});
  }
  return values;
}

}  // namespace

absl::StatusOr<std::string> NcclVersion() {
  RETURN_IF_ERROR(nccl::Load());
  int version = 0;
  CHECK(nccl::Library().get_version(&version) == ncclSuccess);
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

std::string SetUpNccl(bool deterministic) {
  std::vector<std::string> texts;
  for (const Value& value : SetAll(deterministic)) {
    texts.push_back(absl::StrCat(value.text, value.is_ours ? "" : " (from the environment)"));
  }
  return absl::StrJoin(texts, ", ");
}

std::string NcclSettings(bool deterministic) {
  std::vector<std::string> texts;
  for (const Value& value : SetAll(deterministic)) texts.push_back(value.text);
  return absl::StrJoin(texts, ", ");
}

}  // namespace entrain
