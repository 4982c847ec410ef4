// Whole training steps on random tokens: tokens/s, GFLOP/s, share of the machine's peak, memory against the plan.
//
//   train_bench                 every case, each in a process of its own (peak memory is a process's)
//   train_bench CASE [THREADS]  one case
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "launcher/free_memory.h"
#include "launcher/memory_plan.h"
#include "launcher/trainer.h"
#include "model/step_cost.h"
#include "parallel/comm/communicator_host.h"
#include "runtime/base/check.h"
#include "runtime/base/philox.h"
#include "runtime/kernels/matmul.h"

namespace entrain {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Case {
  std::string name;
  TrainConfig config;
  int warmup;
  int steps;  // timed; the median counts
};

TrainConfig BaseConfig(const std::string& preset, Precision precision) {
  TrainConfig config;
  auto model = PresetArchitecture(preset);
  CHECK(model.ok()) << model.status().ToString();
  config.model = *model;
  config.train.precision = precision;
  config.train.steps = 1000;
  config.data.shuffle = false;
  // Steps that change little: a model without norms that learns from noise diverges sooner or later, and it is steps
  // that are timed.
  config.optimizer.lr = 1e-6;
  return config;
}

Case Gpt2Small(const std::string& name, const std::string& preset, Precision precision) {
  Case c{name, BaseConfig(preset, precision), 2, 5};
  c.config.model.layers = 12;
  c.config.model.heads = 12;
  c.config.model.width = 768;
  c.config.model.context = 128;
  c.config.model.vocab = 50257;
  c.config.train.global_batch = 4;
  return c;
}

Case Small14M(const std::string& name, const std::string& preset, Precision precision) {
  Case c{name, BaseConfig(preset, precision), 3, 12};
  c.config.model.layers = 6;
  c.config.model.heads = 6;
  c.config.model.width = 384;
  c.config.model.context = 128;
  c.config.model.vocab = 8192;
  c.config.train.global_batch = 8;
  return c;
}

std::vector<Case> Cases() {
  std::vector<Case> cases = {
      Gpt2Small("124M_fp32", "sm-ln-g", Precision::kFp32),
      Gpt2Small("124M_bf16", "sm-ln-g", Precision::kBf16),
      Small14M("14M_fp32", "sm-ln-g", Precision::kFp32),
      Small14M("14M_bf16", "sm-ln-g", Precision::kBf16),
      Gpt2Small("124M_ereg_fp32", "ereg", Precision::kFp32),
      Gpt2Small("124M_ereg_bf16", "ereg", Precision::kBf16),
  };
  return cases;
}

std::string WriteRandomTokens(const TrainConfig& config) {
  const std::string path = "/tmp/train_bench_" + std::to_string(getpid()) + ".bin";
  auto writer = TokenFileWriter::Create(FileSystem::Posix(), path);
  CHECK(writer.ok()) << writer.status().ToString();
  const int64_t count = 64 * config.train.global_batch * config.model.context + 1;
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    tokens[static_cast<size_t>(i)] =
        static_cast<int32_t>(Philox(1, 2, static_cast<uint64_t>(i))[0] % config.model.vocab);
  }
  CHECK((*writer)->Append(tokens.data(), count).ok());
  CHECK((*writer)->Finish().ok());
  return path;
}

// Best of a large matrix product: what a step could reach if it were nothing else.
double MeasuredPeak(Context& context, DType dtype) {
  const int64_t n = 2048;
  Buffer a(n * n * 4);
  Buffer b(n * n * 4);
  Buffer out(n * n * 4);
  double best = 0.0;
  for (int i = 0; i < 4; ++i) {
    const auto start = Clock::now();
    Matmul(context, {.a = {a.data(), dtype, {n, n}},
                     .b = {b.data(), dtype, {n, n}},
                     .out = {out.data(), DType::kF32, {n, n}}});
    best = std::max(best, 2.0 * n * n * n / SecondsSince(start) / 1e9);
  }
  return best;
}

// A training set-up whose steps can be timed one at a time.
class TimedRun {
 public:
  TimedRun(const TrainConfig& config, int threads) : config_(config), model_(config.model) {
    auto context = Context::CreateCpu(threads);
    CHECK(context.ok()) << context.status().ToString();
    context_ = *std::move(context);
    plan_ = PlanMemory(config_, mesh_.shape(), DeviceKind::kCpu, model_);
    const std::string path = WriteRandomTokens(config_);
    auto data = TokenDataset::Open(FileSystem::Posix(), path, TokenFormat::kLlmc,
                                   config_.model.context, config_.model.vocab);
    CHECK(data.ok()) << data.status().ToString();
    data_.emplace(*std::move(data));
    unlink(path.c_str());
    model_.Allocate(*context_, config_.compute_dtype(), true);
    trainer_.emplace(config_, *context_, mesh_, model_, *data_);
    model_.transformer().Initialize(*context_, 1);
    trainer_->Start();
  }

  double StepSeconds() {
    const auto start = Clock::now();
    CHECK(trainer_->ReadBatches().ok());
    CHECK(trainer_->Step().applied);
    return SecondsSince(start);
  }

  Context& context() { return *context_; }
  const MemoryPlan& plan() const { return plan_; }

 private:
  TrainConfig config_;
  std::unique_ptr<Context> context_;
  Mesh mesh_{MakeWorldOfOne(), {}};
  Model model_;
  MemoryPlan plan_;
  std::optional<TokenDataset> data_;
  std::optional<Trainer> trainer_;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void RunCase(const Case& c, int threads) {
  TimedRun run(c.config, threads);
  for (int i = 0; i < c.warmup; ++i) run.StepSeconds();
  std::vector<double> seconds;
  for (int i = 0; i < c.steps; ++i) seconds.push_back(run.StepSeconds());
  const auto peak_memory = static_cast<double>(PeakMemory());
  const double peak = MeasuredPeak(run.context(), c.config.compute_dtype());
  const double tokens =
      static_cast<double>(c.config.train.global_batch * c.config.model.context) / Median(seconds);
  const double gflops = tokens * TrainingFlopsPerToken(c.config.model) / 1e9;
  const auto planned = static_cast<double>(run.plan().total());
  std::printf(
      "%-16s %9.1f tokens/s %8.1f GFLOP/s %5.1f %% of %5.1f   memory %7.1f MB, planned %7.1f "
      "(%+.1f %%)\n",
      c.name.c_str(), tokens, gflops, 100.0 * gflops / peak, peak, peak_memory / 1e6, planned / 1e6,
      100.0 * (peak_memory - planned) / planned);
}

// The regulariser's cost: two runs in one process, steps in turn, so that a noisy machine hits both alike.
void CompareRegularizer(Precision precision, int threads) {
  Case with = Gpt2Small("ereg", "ereg", precision);
  Case without = with;
  without.config.model.entropy_regularizer.reset();
  TimedRun a(with.config, threads);
  TimedRun b(without.config, threads);
  std::vector<double> on;
  std::vector<double> off;
  for (int i = 0; i < 9; ++i) {
    on.push_back(a.StepSeconds());
    off.push_back(b.StepSeconds());
  }
  std::printf("ereg %s: a step with the regulariser takes %.3f of one without (at most 1.03)\n",
              std::string(kPrecisionNames.Name(precision)).c_str(), Median(on) / Median(off));
}

int Main(int argc, char** argv) {
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  if (argc > 1) {
    for (const Case& c : Cases()) {
      if (c.name == argv[1]) RunCase(c, threads);
    }
    if (std::string(argv[1]) == "regularizer_fp32") CompareRegularizer(Precision::kFp32, threads);
    if (std::string(argv[1]) == "regularizer_bf16") CompareRegularizer(Precision::kBf16, threads);
    return 0;
  }
  std::vector<std::string> names = {"regularizer_fp32", "regularizer_bf16"};
  for (const Case& c : Cases()) names.insert(names.end() - 2, c.name);
  for (const std::string& name : names) {
    const std::string command = std::string(argv[0]) + " " + name;
    if (std::system(command.c_str()) != 0) return 1;
  }
  return 0;
}

}  // namespace
}  // namespace entrain

int main(int argc, char** argv) { return entrain::Main(argc, argv); }
