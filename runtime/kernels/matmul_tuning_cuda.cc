#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/device/buffer.h"
#include "runtime/device/device_memory.h"
#include "runtime/kernels/activation.h"
#include "runtime/kernels/matmul_plans_cuda.h"
#include "runtime/kernels/matmul_tuning.h"
#include "runtime/kernels/measuring_cuda.h"

namespace entrain::cuda {
namespace {

// More than twice the L2 cache of an H100.
constexpr int64_t kRotatedBytes = int64_t{128} << 20;
constexpr int64_t kMaxSets = 8;
constexpr int64_t kPlaceAlignment = 256;

// ---- operands ----

// Random operands of a product, in so many places that none is still in the cache when its turn comes again.
class RotatingOperands {
 public:
  RotatingOperands(Context& context, const MatmulProblem& problem) {
    const int64_t a = (problem.transpose_a ? problem.k : problem.m) * problem.a_stride;
    const int64_t b = (problem.transpose_b ? problem.n : problem.k) * problem.b_stride;
    const int64_t size = SizeOf(problem.dtype), out_size = SizeOf(problem.out_dtype);
    int64_t set_bytes = 0;
    const auto place = [&](int64_t bytes) {
      const int64_t at = set_bytes;
      set_bytes += (bytes + kPlaceAlignment - 1) / kPlaceAlignment * kPlaceAlignment;
      return at;
    };
    const int64_t at_a = place(a * size), at_b = place(b * size), end_of_inputs = set_bytes;
    const int64_t at_out = place(problem.m * problem.out_stride * out_size);
    const int64_t at_addend = place(problem.m * problem.addend_stride * out_size);
    const int64_t at_bias = place(problem.n * out_size);
    const bool has_aux = problem.epilogue != MatmulEpilogue::kNone;
    const int64_t at_aux = place(has_aux ? problem.m * problem.n * out_size : 0);
    const int64_t sets = std::clamp<int64_t>(kRotatedBytes / set_bytes + 1, 1, kMaxSets);
    if (sets * set_bytes > MemoryOf(context).free) return;
    memory_ = Buffer(DeviceKind::kCuda, sets * set_bytes);
    const std::vector<char> inputs = RandomPattern(problem.dtype),
                            outputs = RandomPattern(problem.out_dtype);
    for (int64_t i = 0; i < sets; ++i) {
      char* set = static_cast<char*>(memory_.data()) + i * set_bytes;
      FillWithPattern(context, set, end_of_inputs, inputs);
      FillWithPattern(context, set + end_of_inputs, set_bytes - end_of_inputs, outputs);
      sets_.push_back({.a = set + at_a,
                       .b = set + at_b,
                       .out = set + at_out,
                       .addend = set + at_addend,
                       .bias = set + at_bias,
                       .aux = set + at_aux});
    }
  }

  // False: they do not fit into memory.
  bool valid() const { return !sets_.empty(); }
  const MatmulOperands& Next() { return sets_[next_++ % sets_.size()]; }

 private:
  Buffer memory_;
  std::vector<MatmulOperands> sets_;
  size_t next_ = 0;
};

// ---- choosing ----

// A way to make a product: runs it once; false when it cannot.
using Way = std::function<bool(const MatmulOperands&)>;

class Tuner {
 public:
  Tuner(Context& context, const MatmulTuning& tuning)
      : context_(context), tuning_(tuning), plans_(MatmulPlans::Of(context)) {}

  // Empty when there is no room for the operands.
  std::optional<TunedMatmul> Tune(const MatmulProblem& problem) {
    MatmulPlan& plan = plans_.Find(problem);
    RotatingOperands operands(context_, problem);
    if (!operands.valid() || plan.algorithms.empty()) return std::nullopt;
    std::vector<Way> ways;
    for (const MatmulAlgorithm& algorithm : plan.algorithms) {
      ways.emplace_back([this, &problem, &plan, &algorithm](const MatmulOperands& set) {
        return plans_.Try(context_, problem, plan, algorithm, set) == CUBLAS_STATUS_SUCCESS;
      });
    }
    const bool fused = problem.epilogue != MatmulEpilogue::kNone;
    if (fused) {
      ways.emplace_back([this, &problem](const MatmulOperands& set) {
        RunApart(problem, set);
        return true;
      });
    }
    const std::vector<double> times = Measure(ways, operands);
    const size_t best = BestOf(times);
    TunedMatmul outcome = {.product = Describe(problem),
                           .algorithms = static_cast<int>(plan.algorithms.size()),
                           .choice = static_cast<int>(best),
                           .before_ms = times.front(),
                           .after_ms = times[best]};
    if (best < plan.algorithms.size()) {
      std::swap(plan.algorithms.front(), plan.algorithms[best]);
    } else {
      outcome.choice = -1;
      plan.algorithms.clear();
    }
    return outcome;
  }

 private:
  void RunApart(const MatmulProblem& problem, const MatmulOperands& set) {
    const bool forward = problem.epilogue == MatmulEpilogue::kGelu;
    MatmulProblem product = problem;
    product.epilogue = MatmulEpilogue::kNone;
    MatmulOperands operands = set;
    if (forward) operands.out = set.aux;
    plans_.Run(context_, product, operands);
    const TensorView out(set.out, problem.out_dtype, {problem.m, problem.n});
    const TensorView aux(set.aux, problem.out_dtype, {problem.m, problem.n});
    if (forward) {
      entrain::ActivationForward(context_, {.kind = Activation::kGelu, .x = aux, .out = out});
    } else {
      entrain::ActivationBackward(context_,
                                  {.kind = Activation::kGelu, .x = aux, .dout = out, .dx = out});
    }
  }

  // Milliseconds a run; infinite for a way that fails. Rounds go through all ways, so that a clock that changes meets all.
  std::vector<double> Measure(const std::vector<Way>& ways, RotatingOperands& operands) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    constexpr double kMaxRepeats = 100.0;
    std::vector<std::vector<double>> times(ways.size());
    std::vector<int> repeats(ways.size(), 0);
    for (size_t i = 0; i < ways.size(); ++i) {
      if (!ways[i](operands.Next())) continue;  // also loads the kernel
      const double ms = stopwatch_.Time(context_, [&] { ways[i](operands.Next()); });
      repeats[i] =
          static_cast<int>(std::clamp(tuning_.round_ms / std::max(ms, 1e-3), 1.0, kMaxRepeats));
    }
    for (int round = 0; round < tuning_.rounds; ++round) {
      for (size_t i = 0; i < ways.size(); ++i) {
        if (repeats[i] == 0) continue;
        const double ms = stopwatch_.Time(context_, [&] {
          for (int repeat = 0; repeat < repeats[i]; ++repeat) ways[i](operands.Next());
        });
        times[i].push_back(ms / repeats[i]);
      }
    }
    std::vector<double> medians;
    for (const auto& of_way : times) medians.push_back(of_way.empty() ? kInfinity : Median(of_way));
    return medians;
  }

  // The first stays unless another is clearly faster: noise should not change a run's bits.
  size_t BestOf(const std::vector<double>& times) const {
    const auto best = std::min_element(times.begin(), times.end());
    if (*best > times.front() * (1.0 - tuning_.least_gain)) return 0;
    return static_cast<size_t>(best - times.begin());
  }

  Context& context_;
  const MatmulTuning& tuning_;
  MatmulPlans& plans_;
  Stopwatch stopwatch_;
};

// Those seen, and before them what their epilogues would leave when run apart.
std::vector<MatmulProblem> ProblemsOf(const MatmulPlans& plans) {
  std::vector<MatmulProblem> problems;
  for (const auto& [problem, plan] : plans.plans()) {
    problems.push_back(problem);
    problems.back().epilogue = MatmulEpilogue::kNone;
  }
  for (const auto& [problem, plan] : plans.plans()) {
    if (problem.epilogue != MatmulEpilogue::kNone) problems.push_back(problem);
  }
  std::vector<MatmulProblem> distinct;
  for (const MatmulProblem& problem : problems) {
    if (std::find(distinct.begin(), distinct.end(), problem) == distinct.end()) {
      distinct.push_back(problem);
    }
  }
  return distinct;
}

}  // namespace

std::vector<TunedMatmul> TuneMatmuls(Context& context, const MatmulTuning& tuning) {
  CHECK_GT(tuning.rounds, 0) << "tuning of matrix products";
  Tuner tuner(context, tuning);
  std::vector<TunedMatmul> outcomes;
  for (const MatmulProblem& problem : ProblemsOf(MatmulPlans::Of(context))) {
    if (auto outcome = tuner.Tune(problem)) outcomes.push_back(std::move(*outcome));
  }
  return outcomes;
}

}  // namespace entrain::cuda
