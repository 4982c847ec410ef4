#include "launcher/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <nlohmann/json.hpp>

namespace entrain {
namespace {

using Json = nlohmann::ordered_json;

// True when every number in it is finite; Json keeps a NaN as a number until it is written.
bool IsFinite(const Json& json) {
  if (json.is_number_float()) return std::isfinite(json.get<double>());
  return !json.is_structured() || std::all_of(json.begin(), json.end(), IsFinite);
}

Json HeadEntropyJson(const EntropyMetrics& entropy) {
  return {{"mean", entropy.mean}, {"min", entropy.min}, {"max", entropy.max}, {"std", entropy.std}};
}

Json RecordOf(const StepMetrics& metrics) {
  Json json = {{"step", metrics.step},
               {"loss", metrics.loss},
               {"penalty", metrics.penalty},
               {"total", metrics.total},
               {"grad_norm", metrics.grad_norm},
               {"lr", metrics.lr},
               {"tokens", metrics.tokens},
               {"seconds", metrics.seconds},
               {"tokens_per_second", metrics.tokens_per_second}};
  if (metrics.mfu) json["mfu"] = *metrics.mfu;
  if (metrics.skipped) json["skipped"] = true;
  if (metrics.validation_loss) json["validation_loss"] = *metrics.validation_loss;
  if (metrics.times) {
    for (const auto& [name, seconds] : metrics.times->Named()) json["times"][name] = seconds;
  }
  if (metrics.entropy) {
    json["buckets"] = metrics.entropy->buckets;
    json["layer_entropy"] = metrics.entropy->layer_mean;
    json["head_entropy"] = HeadEntropyJson(*metrics.entropy);
  }
  if (metrics.threshold) json["threshold"] = *metrics.threshold;
  if (metrics.gate) json["gate"] = *metrics.gate;
  return json;
}

// The step of a whole record, or nothing for a line that is none.
std::optional<int64_t> StepOf(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  const auto step = json.find("step");
  if (step == json.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<int64_t>();
}

// The lines of `text` that stay; one without its newline was torn.
std::string KeptLines(const std::string& text, int64_t resume_step) {
  std::string kept;
  size_t begin = 0;
  for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    const std::string line = text.substr(begin, end - begin);
    const std::optional<int64_t> step = StepOf(line);
    if (step && *step <= resume_step && resume_step > 0) kept += line + "\n";
    begin = end + 1;
  }
  return kept;
}

absl::Status RemoveLaterRecords(FileSystem& fs, const std::string& path, int64_t resume_step) {
  ASSIGN_OR_RETURN(const bool exists, fs.Exists(path));
  if (!exists) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string text, fs.ReadText(path));
  const std::string kept = KeptLines(text, resume_step);
  return kept == text ? absl::OkStatus() : WriteTextAtomically(fs, path, kept);
}

absl::Status SystemError(const std::string& path, const std::string& action) {
  return absl::ErrnoToStatus(errno, path + ": cannot " + action);
}

}  // namespace

EntropyMetrics EntropyMetricsOf(const EntropyStatistics& statistics, int64_t positions) {
  EntropyMetrics metrics;
  const HeadTable means = statistics.Means();
  metrics.buckets = BucketShares(means, positions);
  metrics.layer_mean = LayerMeans(means);
  for (int64_t layer = 0; layer < statistics.layers(); ++layer) {
    for (HeadTable* table : {&metrics.mean, &metrics.min, &metrics.max, &metrics.std}) {
      table->emplace_back();
    }
    for (int64_t head = 0; head < statistics.heads(); ++head) {
      metrics.mean.back().push_back(statistics.Mean(layer, head));
      metrics.min.back().push_back(statistics.Min(layer, head));
      metrics.max.back().push_back(statistics.Max(layer, head));
      metrics.std.back().push_back(statistics.StandardDeviation(layer, head));
    }
  }
  return metrics;
}

std::string ToJsonLine(const StepMetrics& metrics) {
  Json json = RecordOf(metrics);
  if (!IsFinite(json)) json["nonfinite"] = true;
  return json.dump();
}

absl::StatusOr<MetricsWriter> MetricsWriter::Open(FileSystem& fs, const std::string& path,
                                                  int64_t resume_step) {
  RETURN_IF_ERROR(RemoveLaterRecords(fs, path, resume_step));
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor < 0) return SystemError(path, "open to append");
  return MetricsWriter(path, descriptor);
}

MetricsWriter::MetricsWriter(MetricsWriter&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

MetricsWriter::~MetricsWriter() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status MetricsWriter::Append(const StepMetrics& metrics) {
  const std::string line = ToJsonLine(metrics) + "\n";
  const off_t end = lseek(descriptor_, 0, SEEK_END);
  size_t done = 0;
  while (done < line.size()) {
    const ssize_t written = write(descriptor_, line.data() + done, line.size() - done);
    if (written >= 0) {
      done += static_cast<size_t>(written);
    } else if (errno != EINTR) {
      const absl::Status status = SystemError(path_, "append a record");
      // Half a line would spoil the next record.
      return ftruncate(descriptor_, end) == 0 ? status : SystemError(path_, "undo half a record");
    }
  }
  return absl::OkStatus();
}

}  // namespace entrain
