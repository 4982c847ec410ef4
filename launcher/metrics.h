// metrics.jsonl: one JSON object a logged step, at full precision.
#ifndef ENTRAIN_LAUNCHER_METRICS_H_
#define ENTRAIN_LAUNCHER_METRICS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launcher/step_times.h"
#include "model/entropy_statistics.h"
#include "runtime/base/status.h"
#include "runtime/io/file_system.h"

namespace entrain {

// Of the row entropies over the step's batch, in nats.
struct EntropyMetrics {
  HeadTable mean;
  HeadTable min;
  HeadTable max;
  HeadTable std;
  std::vector<double> layer_mean;   // [L]
  std::array<double, 4> buckets{};  // BucketShares
};
EntropyMetrics EntropyMetricsOf(const EntropyStatistics& statistics, int64_t positions);

struct StepMetrics {
  int64_t step = 0;        // optimizer steps done, this one included
  double loss = 0.0;       // cross-entropy, nats a token
  double penalty = 0.0;    // L_entropy, before λ
  double total = 0.0;      // loss + λ · penalty
  double grad_norm = 0.0;  // before clipping
  double lr = 0.0;
  int64_t tokens = 0;              // trained on since step 0
  double seconds = 0.0;            // of training since step 0
  double tokens_per_second = 0.0;  // since the last record
  std::optional<double> mfu;       // of the GPUs' dense bf16 peak, where it is known
  bool skipped = false;            // a non-finite loss or gradient: no update was made
  std::optional<EntropyMetrics> entropy;
  std::optional<HeadTable> threshold;  // θ
  std::optional<HeadTable> gate;  // 1 where the penalty acts, or the share of rows where it does
  std::optional<double> validation_loss;
  std::optional<StepTimes> times;  // of the first rank, since the last record
};

// The record as one line, without the newline: the fields of StepMetrics by name, head_entropy
// {mean, min, max, std}, layer_entropy [L] and buckets [4] with it; times as an object of seconds. Absent optionals are left out.
// A NaN or infinity is null, and "nonfinite": true says so. Numbers read back the same.
std::string ToJsonLine(const StepMetrics& metrics);

class MetricsWriter {
 public:
  // Opens `path` to append. What a resumed run will write again is removed first: records of steps
  // after `resume_step` (0: all), and lines that are no record, as a crash may leave at the end.
  // The file is replaced atomically if need be.
  static absl::StatusOr<MetricsWriter> Open(FileSystem& fs, const std::string& path,
                                            int64_t resume_step);

  MetricsWriter(MetricsWriter&& other) noexcept;
  MetricsWriter& operator=(MetricsWriter&&) = delete;
  ~MetricsWriter();

  // Appends one line with one write: a crash tears at most the last line, and an error (ResourceExhausted: no space) leaves
  // the file as it was.
  absl::Status Append(const StepMetrics& metrics);

 private:
  MetricsWriter(std::string path, int descriptor)
      : path_(std::move(path)), descriptor_(descriptor) {}

  std::string path_;
  int descriptor_;
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_METRICS_H_
