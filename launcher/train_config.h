// TrainConfig: everything a run is told, and the only place that knows the configuration file's format.
#ifndef ENTRAIN_LAUNCHER_TRAIN_CONFIG_H_
#define ENTRAIN_LAUNCHER_TRAIN_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "model/model_config.h"
#include "runtime/data/token_file.h"
#include "runtime/tensor/dtype.h"

namespace entrain {

enum class DeviceChoice { kAuto, kCpu, kCuda };
inline constexpr EnumTable<DeviceChoice, 3> kDeviceChoiceNames{
    {{{DeviceChoice::kAuto, "auto"}, {DeviceChoice::kCpu, "cpu"}, {DeviceChoice::kCuda, "cuda"}}}};

enum class Precision { kFp32, kBf16 };
inline constexpr EnumTable<Precision, 2> kPrecisionNames{
    {{{Precision::kFp32, "fp32"}, {Precision::kBf16, "bf16"}}}};
constexpr DType DTypeFor(Precision precision) {
  return precision == Precision::kBf16 ? DType::kBf16 : DType::kF32;
}

enum class OnOff { kAuto, kOn, kOff };
inline constexpr EnumTable<OnOff, 3> kOnOffNames{
    {{{OnOff::kAuto, "auto"}, {OnOff::kOn, "on"}, {OnOff::kOff, "off"}}}};

// Of attention's backward on a GPU; auto: this project's, unless a table of measurements says that cuDNN's is faster.
enum class AttentionChoice { kAuto, kEntrain, kCudnn };
inline constexpr EnumTable<AttentionChoice, 3> kAttentionChoiceNames{
    {{{AttentionChoice::kAuto, "auto"},
      {AttentionChoice::kEntrain, "entrain"},
      {AttentionChoice::kCudnn, "cudnn"}}}};

enum class Schedule { kConstant, kLinear, kCosine };
inline constexpr EnumTable<Schedule, 3> kScheduleNames{{{{Schedule::kConstant, "constant"},
                                                         {Schedule::kLinear, "linear"},
                                                         {Schedule::kCosine, "cosine"}}}};

struct RunSection {
  std::string dir;                     // required
  double exit_after_minutes = 0.0;     // save and leave so long after the start; 0: never
  double exit_margin_seconds = 120.0;  // before SLURM_JOB_END_TIME
  // Deadlines of the watchdog; 0: none.
  double startup_timeout_minutes = 60.0;
  double step_timeout_minutes = 60.0;
  double save_timeout_minutes = 60.0;
};

struct DataSection {
  std::string train;       // required: file, glob or folder
  std::string validation;  // "": none
  std::string tokenizer = "gpt2";
  TokenFormat format = TokenFormat::kAuto;
  bool shuffle = true;
};

struct TrainSection {
  int64_t steps = 1000;
  int64_t global_batch = 32;  // sequences an optimizer step
  int64_t micro_batch = 0;    // sequences a rank and micro-step; 0: the whole global batch
  uint64_t seed = 1337;
  Precision precision = Precision::kFp32;
  Precision logits = Precision::kFp32;  // between the head's product and the loss
  DeviceChoice device = DeviceChoice::kAuto;
  int threads = 0;    // 0: the cores a rank may use, shared with the ranks of its host
  bool tf32 = false;  // fp32 products of a GPU with factors of 10 bits
  bool recompute = false;
  OnOff cuda_graph = OnOff::kAuto;
  AttentionChoice attention = AttentionChoice::kAuto;
  bool tune = false;           // measure the GPU's choices before the first step
  std::string tuning;          // or take those that another run's tuning.txt has
  int64_t max_bad_steps = 10;  // stop after so many non-finite steps in a row
};

struct OptimizerSection {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip = 1.0;  // 0: off
  Schedule schedule = Schedule::kLinear;
  int64_t warmup_steps = 0;
  double min_lr = 0.0;
};

struct CheckpointSection {
  int64_t every = 1000;  // steps; 0: only at the end and on a signal
  int keep = 2;
  int64_t keep_every = 0;
  bool background = false;  // written from a copy while training goes on
};

struct ValidationSection {
  int64_t every = 0;    // steps; 0: never
  int64_t batches = 0;  // a rank, of micro_batch sequences; 0: the whole set
};

enum class CommBackend { kAuto, kMpi, kNccl };
inline constexpr EnumTable<CommBackend, 3> kCommBackendNames{
    {{{CommBackend::kAuto, "auto"}, {CommBackend::kMpi, "mpi"}, {CommBackend::kNccl, "nccl"}}}};

struct ParallelSection {
  int64_t dp = 0;  // 0: what the ranks allow
  int64_t tp = 1;
  bool sequence_parallel = false;
  int64_t zero = 0;                               // stage
  Precision reduce_precision = Precision::kFp32;  // of gradients on the wire
  double bucket_mb = 25.0;
  CommBackend backend = CommBackend::kAuto;
  // 0: never.
  double peer_timeout_seconds = 10.0;
  double wait_timeout_seconds = 600.0;
};

struct LoggingSection {
  int64_t every = 10;  // steps
};

struct TrainConfig {
  RunSection run;
  ModelConfig model;
  std::string init_from;  // [model] init_from: "" or a Hugging Face folder
  DataSection data;
  TrainSection train;
  OptimizerSection optimizer;
  CheckpointSection checkpoint;
  ValidationSection validation;
  LoggingSection logging;
  ParallelSection parallel;

  // Sequences a rank and micro-step, and micro-steps a step, on `dp` ranks that divide the global batch.
  int64_t micro_batch(int dp) const {
    return train.micro_batch == 0 ? train.global_batch / dp : train.micro_batch;
  }
  int64_t accumulation(int dp) const { return train.global_batch / (micro_batch(dp) * dp); }
  // Of gradients as they travel.
  DType wire_dtype() const { return DTypeFor(parallel.reduce_precision); }
  DType compute_dtype() const { return DTypeFor(train.precision); }
};

// Reads a TOML file and then each "section.key=value" of `overrides` (values in TOML's syntax; a bare word is a string).
// The architecture preset is applied before the keys that override it, wherever they stand. With init_from the
// architecture and sizes come from that folder's config.json, and only the regulariser and temperature_init, temperature_min
// and residual_init_scale, which fit any weights, may be set; a key that restates the folder's value is accepted. A text
// that gives every key of the architecture, as ToToml does, is read without the folder.
// Errors name where (file:line:column or --set), key, value, what is allowed and the nearest name.
absl::StatusOr<TrainConfig> LoadTrainConfig(const std::string& path,
                                            const std::vector<std::string>& overrides);

// The same from text; `source` stands for the file's name in messages.
absl::StatusOr<TrainConfig> ParseTrainConfig(const std::string& text, const std::string& source,
                                             const std::vector<std::string>& overrides);

// The complete configuration, every key written out, such that ParseTrainConfig gives it back exactly.
std::string ToToml(const TrainConfig& config);

// Every key with its default and its meaning, a line each: `entrain train --help-config`.
std::string DescribeConfigKeys();

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TRAIN_CONFIG_H_
