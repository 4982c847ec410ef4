#include "launcher/run_requests.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace entrain {
namespace {

// Above all numbers of signals.
enum Leave : int32_t { kStopAt = 1000, kExitAfter, kJobEnd, kStopFile };

constexpr char kSaveFile[] = "SAVE";
constexpr char kStopFileName[] = "STOP";

double SecondsSince1970() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace

std::optional<int64_t> SlurmJobEnd(const std::optional<std::string>& variable) {
  // Slurm writes a job without a limit as the largest number of 32 bits, or as 0.
  constexpr int64_t kNone = 0xFFFFFFFE;
  int64_t end = 0;
  if (!variable || !absl::SimpleAtoi(*variable, &end) || end <= 0 || end >= kNone) {
    return std::nullopt;
  }
  return end;
}

RunRequests::RunRequests(FileSystem& fs, RunRequestOptions options)
    : fs_(fs), options_(std::move(options)) {
  if (!options_.now) options_.now = SecondsSince1970;
  start_ = options_.now();
}

RunRequests::Seen RunRequests::Look(int64_t step, double longest_step, double longest_save) {
  Seen seen;
  const double now = options_.now();
  seen.leave = signals_.received();
  if (options_.stop_at > 0 && step >= options_.stop_at)
    seen.leave = std::max<int>(seen.leave, kStopAt);
  if (options_.exit_after_minutes > 0 && now - start_ >= 60.0 * options_.exit_after_minutes) {
    seen.leave = std::max<int>(seen.leave, kExitAfter);
  }
  if (options_.job_end) {
    // The step that begins now, a save, and as much again for what is slower than before.
    const double needed = options_.exit_margin_seconds + 2.0 * (longest_step + longest_save);
    if (now + needed >= static_cast<double>(*options_.job_end)) {
      seen.leave = std::max<int>(seen.leave, kJobEnd);
    }
  }
  if (!options_.watches_files) return seen;
  if (FileIsThere(kStopFileName)) seen.leave = kStopFile;
  if (FileIsThere(kSaveFile)) seen.save = 1;
  return seen;
}

std::string RunRequests::Reason(int32_t leave) const {
  switch (leave) {
    case kStopAt:
      return absl::StrCat("--stop-at ", options_.stop_at);
    case kExitAfter:
      return absl::StrCat("[run] exit_after_minutes = ", options_.exit_after_minutes);
    case kJobEnd:
      return "the end of the Slurm job is near (SLURM_JOB_END_TIME)";
    case kStopFile:
      return absl::StrCat("the file ", JoinPath(options_.run_dir, kStopFileName));
    default:
      return SignalName(leave);
  }
}

absl::Status RunRequests::Done(const Seen& all) {
  if (!options_.watches_files) return absl::OkStatus();
  absl::Status status;
  auto remove = [&](const char* name) {
    const absl::Status removed = fs_.RemoveFile(JoinPath(options_.run_dir, name));
    if (!removed.ok() && !absl::IsNotFound(removed)) status.Update(removed);
  };
  if (all.save != 0) remove(kSaveFile);
  if (all.leave == kStopFile) remove(kStopFileName);
  return status;
}

bool RunRequests::FileIsThere(const char* name) const {
  const absl::StatusOr<bool> exists = fs_.Exists(JoinPath(options_.run_dir, name));
  return exists.ok() && *exists;
}

}  // namespace entrain
