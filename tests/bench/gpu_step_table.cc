#include "tests/bench/gpu_step_table.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <optional>
#include <utility>

#include "launcher/memory_plan.h"
#include "launcher/progress.h"
#include "launcher/trainer.h"
#include "model/step_cost.h"
#include "parallel/comm/communicator_host.h"
#include "runtime/base/check.h"
#include "runtime/base/philox.h"
#include "runtime/device/gpu_limits.h"
#include "runtime/kernels/matmul_tuning.h"
#include "tests/bench/gpu_timing.h"

namespace entrain {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kWithRegularizer[] = ", regulariser";
constexpr char kWithoutRegularizer[] = ", no regulariser";
constexpr char kRoundedLogits[] = ", bf16 logits";
constexpr char kWithoutGraph[] = ", no graph";
constexpr char kWithoutRecompute[] = ", no recomputation";

struct ModelSize {
  const char* name;
  int64_t layers, heads, width;
};
constexpr ModelSize k124M{"124M", 12, 12, 768};
constexpr ModelSize k350M{"350M", 24, 16, 1024};
constexpr ModelSize k1558M{"1558M", 48, 25, 1600};

StepCase MakeCase(const ModelSize& size, const std::string& preset, int64_t batch,
                  int64_t context) {
  StepCase made;
  made.name = std::string(size.name) + " " + preset + " " + std::to_string(batch) + " x " +
              std::to_string(context);
  auto model = PresetArchitecture(preset);
  CHECK(model.ok()) << model.status().ToString();
  TrainConfig& config = made.config;
  config.model = *model;
  config.model.layers = size.layers;
  config.model.heads = size.heads;
  config.model.width = size.width;
  config.model.context = context;
  config.model.vocab = 50257;
  config.train.precision = Precision::kBf16;
  config.train.device = DeviceChoice::kCuda;
  config.train.steps = 1000;
  config.train.global_batch = batch;
  config.data.shuffle = false;
  // Steps that change little: it is steps that are timed, and a model that learns from noise diverges sooner or later.
  config.optimizer.lr = 1e-6;
  return made;
}

StepCase WithoutRegularizer(StepCase step_case) {
  step_case.name += kWithoutRegularizer;
  step_case.config.model.entropy_regularizer.reset();
  return step_case;
}

// Over heads, as the preset `ereg` has it.
StepCase WithRegularizer(StepCase step_case) {
  step_case.name += kWithRegularizer;
  step_case.config.model.entropy_regularizer.emplace();
  return step_case;
}

// As PyTorch's autocast has them.
StepCase WithRoundedLogits(StepCase step_case) {
  step_case.name += kRoundedLogits;
  step_case.config.train.logits = Precision::kBf16;
  return step_case;
}

StepCase WithoutRecompute(StepCase step_case) {
  step_case.name += kWithoutRecompute;
  step_case.config.train.recompute = false;
  return step_case;
}

StepCase WithoutGraph(StepCase step_case) {
  step_case.name += kWithoutGraph;
  step_case.config.train.cuda_graph = OnOff::kOff;
  return step_case;
}

std::vector<StepCase> SmokeCases() {
  constexpr ModelSize kTiny{"tiny", 2, 2, 64};
  StepCase tiny = MakeCase(kTiny, "sm-ln-g", 2, 32);
  StepCase regularized = MakeCase(kTiny, "ereg", 2, 32);
  std::vector<StepCase> cases = {tiny, regularized, WithoutRegularizer(regularized),
                                 WithoutGraph(regularized)};
  for (StepCase& one : cases) {
    one.config.model.vocab = 200;
    one.config.train.recompute = one.name == tiny.name;
    one.warmup = 1;
    one.steps = 1;
  }
  return cases;
}

std::string WriteRandomTokens(const TrainConfig& config, int64_t sequences) {
  const std::string path = "/tmp/gpu_bench_" + std::to_string(getpid()) + ".bin";
  auto writer = TokenFileWriter::Create(FileSystem::Posix(), path);
  CHECK(writer.ok()) << writer.status().ToString();
  std::vector<int32_t> tokens(static_cast<size_t>(sequences * config.model.context + 1));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(Philox(1, 2, i)[0] % config.model.vocab);
  }
  CHECK((*writer)->Append(tokens.data(), static_cast<int64_t>(tokens.size())).ok());
  CHECK((*writer)->Finish().ok());
  return path;
}

TokenDataset OpenRandomTokens(const TrainConfig& config) {
  const std::string path = WriteRandomTokens(config, 16 * config.train.global_batch);
  auto data = TokenDataset::Open(FileSystem::Posix(), path, TokenFormat::kLlmc,
                                 config.model.context, config.model.vocab);
  CHECK(data.ok()) << data.status().ToString();
  unlink(path.c_str());
  return *std::move(data);
}

// A training set-up whose steps can be timed one at a time.
class TimedRun {
 public:
  TimedRun(const TrainConfig& config, Context& context)
      : context_(context), model_(config.model), data_(OpenRandomTokens(config)) {
    AllocateForTraining(config, context_, mesh_, model_);
    trainer_.emplace(config, context_, mesh_, model_, data_);
    model_.transformer().Initialize(context_, 1);
    trainer_->Start();
  }

  double StepSeconds() {
    Synchronize(context_);
    const auto start = Clock::now();
    CHECK(trainer_->ReadBatches().ok());
    const StepReport report = trainer_->Step();
    Synchronize(context_);
    times_.Add(report.times);
    if (!report.applied) ++left_out_;
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  // Since the last call.
  StepTimes TakeTimes() { return std::exchange(times_, {}); }
  int left_out() const { return left_out_; }
  const Model& model() const { return model_; }

 private:
  Context& context_;
  Mesh mesh_{MakeWorldOfOne(), {}};
  Model model_;
  TokenDataset data_;
  std::optional<Trainer> trainer_;
  StepTimes times_;
  int left_out_ = 0;
};

nlohmann::ordered_json Describe(const StepCase& step_case) {
  const ModelConfig& model = step_case.config.model;
  return {{"kind", "step"},
          {"name", step_case.name},
          {"architecture", model.architecture},
          {"layers", model.layers},
          {"heads", model.heads},
          {"width", model.width},
          {"context", model.context},
          {"vocab", model.vocab},
          {"batch", step_case.config.train.global_batch},
          {"recompute", step_case.config.train.recompute},
          {"regularizer", model.entropy_regularizer.has_value()}};
}

// What the case takes of the GPU's memory and what is free, in bytes. Beside the plan: the ops' scratch, cuBLASLt's work space.
std::pair<double, double> NeededAndFree(Context& context, const StepCase& step_case) {
  constexpr double kSpare = 1.03;
  Model model(step_case.config.model);
  const MemoryPlan plan = PlanMemory(step_case.config, {}, context.device(), model);
  return {kSpare * static_cast<double>(plan.on_device(DeviceKind::kCuda)),
          static_cast<double>(MemoryOf(context).free)};
}

// By sections, of the device's time; of the host's what it waits for data.
nlohmann::ordered_json Shares(const StepTimes& times) {
  double sum = 0.0;
  for (const auto& [name, seconds] : times.Named()) sum += seconds;
  nlohmann::ordered_json shares;
  for (const auto& [name, seconds] : times.Named()) shares[name] = seconds / std::max(sum, 1e-12);
  return shares;
}

void LeaveOut(const StepCase& step_case, double needed, double free, const GpuResults& results) {
  std::printf("%-40s left out: needs %.1f GB, %.1f GB are free\n", step_case.name.c_str(),
              needed / 1e9, free / 1e9);
  nlohmann::ordered_json result = Describe(step_case);
  result["left_out"] = "needs more memory than is free";
  results.Add(result);
}

}  // namespace

std::vector<StepCase> StepCases(BenchSize size) {
  if (size == BenchSize::kSmoke) return SmokeCases();
  std::vector<StepCase> cases;
  for (const auto& [batch, context] :
       std::vector<std::pair<int64_t, int64_t>>{{64, 1024}, {128, 512}, {512, 128}}) {
    cases.push_back(MakeCase(k124M, "sm-ln-g", batch, context));
    const StepCase plain = cases.back();
    cases.push_back(WithRoundedLogits(plain));
    cases.push_back(WithRegularizer(plain));
    cases.push_back(WithRegularizer(WithRoundedLogits(plain)));
    if (size == BenchSize::kQuick && context < 1024) continue;
    cases.push_back(MakeCase(k124M, "ereg", batch, context));
    cases.push_back(WithoutRegularizer(cases.back()));
  }
  // So few tokens that launches count.
  cases.push_back(MakeCase(k124M, "ereg", 8, 128));
  cases.push_back(WithoutGraph(cases.back()));
  cases.push_back(MakeCase(k350M, "sm-ln-g", 32, 1024));
  cases.push_back(MakeCase(k1558M, "sm-ln-g", 16, 1024));
  cases.back().config.train.recompute = true;
  cases.push_back(WithoutRecompute(cases.back()));
  if (size == BenchSize::kQuick) {
    for (StepCase& one : cases) one.steps = 5;
  }
  return cases;
}

void RunStepCase(Context& context, const StepCase& step_case, const GpuResults& results) {
  const auto [needed, free] = NeededAndFree(context, step_case);
  if (needed > free) return LeaveOut(step_case, needed, free, results);
  const int64_t free_before = MemoryOf(context).free;
  TimedRun run(step_case.config, context);
  for (int i = 0; i < step_case.warmup; ++i) {
    run.StepSeconds();
    // The products of a step are known behind the first.
    if (i == 0) TuneMatmuls(context, {});
  }
  run.TakeTimes();
  std::vector<double> seconds;
  for (int i = 0; i < step_case.steps; ++i) seconds.push_back(run.StepSeconds());

  const TrainConfig& config = step_case.config;
  const double rate =
      static_cast<double>(config.train.global_batch * config.model.context) / Median(seconds);
  const double flops = rate * UsualFlopsPerToken(config.model, run.model().params().num_elements());
  const double limit = LimitsOf(context.cuda().name).bf16_flops;
  const int64_t bytes = free_before - MemoryOf(context).free;
  std::printf("%-40s %9.0f tokens/s %8.2f ms %7.1f TFLOP/s ", step_case.name.c_str(), rate,
              1e3 * Median(seconds), flops / 1e12);
  const std::optional<double> mfu = limit > 0.0 ? std::optional(flops / limit) : std::nullopt;
  std::printf("%9s %6.2f GB%s\n", MfuText(mfu).c_str(), static_cast<double>(bytes) / 1e9,
              run.left_out() > 0 ? "  (steps that were not finite)" : "");
  const nlohmann::ordered_json shares = Shares(run.TakeTimes());
  std::printf("  its time:");
  for (const auto& [name, share] : shares.items()) {
    if (share > 0.0005) std::printf(" %s %.1f %%", name.c_str(), 100.0 * share.get<double>());
  }
  std::printf("\n");
  std::fflush(stdout);

  nlohmann::ordered_json result = Describe(step_case);
  result["shares"] = shares;
  result["tokens_per_second"] = rate;
  result["seconds"] = Median(seconds);
  result["flops_per_second"] = flops;
  if (mfu) result["mfu"] = *mfu;
  result["bytes"] = bytes;
  results.Add(result);
}

void RunStepsToProfile(Context& context, StepCase step_case) {
  constexpr int kSteps = 3;
  step_case.config.train.cuda_graph = OnOff::kOff;
  TimedRun run(step_case.config, context);
  for (int i = 0; i < kSteps; ++i) run.StepSeconds();
}

void CompareStepCases(const GpuResults& results) {
  std::map<std::string, double> rates;
  for (const nlohmann::json& result : results.All()) {
    if (result.contains("tokens_per_second")) rates[result["name"]] = result["tokens_per_second"];
  }
  const auto compare = [&](const std::string& with, const std::string& without, const char* what) {
    if (rates.count(with) == 0 || rates.count(without) == 0) return;
    std::printf("%s: a step %s takes %.3f of one without\n", with.c_str(), what,
                rates[without] / rates[with]);
  };
  for (const auto& [name, rate] : std::map(rates)) {
    compare(name + kWithRegularizer, name, "with the regulariser");
    compare(name, name + kWithoutRegularizer, "with the regulariser");
    compare(name + kRoundedLogits, name, "with bf16 logits");
    compare(name, name + kWithoutGraph, "as one graph");
    compare(name, name + kWithoutRecompute, "with recomputation");
  }
}

}  // namespace entrain
