// Products whose sums are cut into parts: the rule that says how, and what the plans make of it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "runtime/kernels/matmul.h"
#include "runtime/kernels/matmul_splits_cuda.h"
#include "runtime/kernels/matmul_tuning.h"
#include "tests/support/gpu_test.h"
#include "tests/support/matmul_gpu_case.h"

namespace entrain {
namespace {

using cuda::SplitRule;

// ---- the rule ----

constexpr SplitRule kHopper = {.multiprocessors = 132, .capability = 90};
constexpr int64_t kTokens = 65'536;

cuda::MatmulProblem WeightGradient(int64_t in, int64_t out, DType dtype = DType::kBf16) {
  return {.m = in, .n = out, .k = kTokens, .dtype = dtype, .out_dtype = DType::kF32};
}

// Of blocks of 128 × 256 sums, one on a multiprocessor.
double Waves(const SplitRule& rule, const cuda::MatmulProblem& problem) {
  const double tiles = static_cast<double>(problem.m / 128 * (problem.n / 256));
  return tiles / rule.multiprocessors;
}

int Best(const SplitRule& rule, const cuda::MatmulProblem& problem) {
  const std::vector<int> better = rule.BetterThan(1, problem, Waves(rule, problem));
  return better.empty() ? 1 : better.front();
}

TEST(SplitRule, FillsTheDeviceWithGpt2sWeightGradients) {
  EXPECT_EQ(Best(kHopper, WeightGradient(768, 768)), 7);   // 126 blocks
  EXPECT_EQ(Best(kHopper, WeightGradient(768, 2304)), 7);  // 378: 2.9 waves
  EXPECT_EQ(Best(kHopper, WeightGradient(768, 3072)), 7);  // 504: 3.8 waves
  EXPECT_EQ(Best(kHopper, WeightGradient(3072, 768)), 7);
  const SplitRule ampere = {.multiprocessors = 108, .capability = 80};
  EXPECT_EQ(Best(ampere, WeightGradient(768, 768)), 6);  // 108 blocks
}

TEST(SplitRule, GainsWhatItSays) {
  const cuda::MatmulProblem small = WeightGradient(768, 768);
  const double waves = Waves(kHopper, small);
  const double gain = kHopper.Clocks(small, waves, 1) / kHopper.Clocks(small, waves, 7);
  EXPECT_GT(gain, 5.5);
  EXPECT_LT(gain, 7.0);
  // Nothing to gain where the device is full, or where cutting goes on from what is good already.
  cuda::MatmulProblem full = WeightGradient(kTokens, 3072);
  full.k = 768;
  EXPECT_EQ(Best(kHopper, full), 1);
  EXPECT_TRUE(kHopper.BetterThan(7, small, waves).empty());
  // Nor where sums are short.
  cuda::MatmulProblem shorter = small;
  shorter.k = 1000;
  EXPECT_EQ(Best(kHopper, shorter), 1);
}

TEST(SplitRule, HoldsForFp32Too) {
  EXPECT_GT(Best(kHopper, WeightGradient(768, 768, DType::kF32)), 4);
}

TEST(SplitRule, CountsWhatReadingThePartsCosts) {
  cuda::MatmulProblem problem = WeightGradient(768, 768);
  const double plain = kHopper.Clocks(problem, 0.1, 4);
  problem.accumulate = true;
  EXPECT_GT(kHopper.Clocks(problem, 0.1, 4), plain);
  EXPECT_EQ(kHopper.Clocks(problem, 0.1, 1), kHopper.Clocks(WeightGradient(768, 768), 0.1, 1));
}

// ---- plans ----

// Few sums of many terms, for which the emulated library's heuristics do not cut.
constexpr MatmulCase kFew = {
    .m = 128, .n = 1024, .k = 2048, .dtype = DType::kBf16, .transpose_a = true};

int PartsOf(const cublasLtMatmulAlgo_t& algo) {
  int32_t parts = 0;
  size_t written = 0;
  EXPECT_EQ(cublasLtMatmulAlgoConfigGetAttribute(&algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts,
                                                 sizeof(parts), &written),
            CUBLAS_STATUS_SUCCESS);
  return parts;
}

cuda::MatmulPlan& PlanOf(Context& context, const MatmulCase& c) {
  return cuda::MatmulPlans::Of(context).Find(cuda::ProblemOf(MatmulOperandTwins(c).GpuArgs(c)));
}

TEST(MatmulSplits, RightWithBothDtypesAndSums) {
  ENTRAIN_REQUIRE_GPU();
  for (const bool accumulate : {false, true}) {
    for (const DType dtype : {DType::kBf16, DType::kF32}) {
      for (const DType out : {DType::kF32, dtype}) {
        if (accumulate && out != DType::kF32) continue;
        MatmulCase c = kFew;
        c.dtype = dtype;
        c.out_dtype = out;
        c.accumulate = accumulate;
        if (dtype == DType::kF32) c.n = 128;
        SCOPED_TRACE(testing::Message() << c);
        MatmulOperandTwins operands(c);
        Matmul(Gpu(), operands.GpuArgs(c));
        Matmul(Cpu(), operands.CpuArgs(c));
        EXPECT_LT(operands.out.Error(), ToleranceOf(c));
        if (OnEmulatedGpu()) {
          EXPECT_GT(PartsOf(PlanOf(Gpu(), c).algorithms.front().algo), 1);
        }
      }
    }
  }
}

TEST(MatmulSplits, EveryFormMultiplies) {
  ENTRAIN_REQUIRE_GPU();
  const auto context = OtherContext();
  MatmulCase c = kFew;
  c.accumulate = true;
  auto& plans = cuda::MatmulPlans::Of(*context);
  const cuda::MatmulPlan& plan = PlanOf(*context, c);
  std::set<int> parts;
  for (const cuda::MatmulAlgorithm& algorithm : plan.algorithms) {
    parts.insert(PartsOf(algorithm.algo));
    MatmulOperandTwins operands(c);
    const MatmulArgs args = operands.GpuArgs(c);
    ASSERT_EQ(plans.Try(*context, cuda::ProblemOf(args), plan, algorithm,
                        {.a = args.a.raw(), .b = args.b.raw(), .out = args.out.raw()}),
              CUBLAS_STATUS_SUCCESS);
    Synchronize(*context);
    Matmul(Cpu(), operands.CpuArgs(c));
    EXPECT_LT(operands.out.Error(), ToleranceOf(c)) << PartsOf(algorithm.algo);
  }
  if (OnEmulatedGpu()) {
    EXPECT_GE(parts.size(), 3);
  }
}

TEST(MatmulSplits, SameBitsEveryTime) {
  ENTRAIN_REQUIRE_GPU();
  const std::vector<uint8_t> first = OutBits(Gpu(), kFew);
  EXPECT_EQ(OutBits(Gpu(), kFew), first);
  EXPECT_EQ(OutBits(*OtherContext(), kFew), first);
}

TEST(MatmulSplits, LeavesOtherProductsAlone) {
  ENTRAIN_REQUIRE_GPU();
  if (!OnEmulatedGpu()) GTEST_SKIP() << "the emulated library's algorithms are known";
  MatmulCase with_bias = kFew;
  with_bias.bias = true;
  EXPECT_EQ(PartsOf(PlanOf(Gpu(), with_bias).algorithms.front().algo), 1);
  MatmulCase many = kFew;
  std::swap(many.n, many.k);
  many.n = 2048;
  many.k = 512;
  EXPECT_EQ(PartsOf(PlanOf(Gpu(), many).algorithms.front().algo), 1);
}

// The check does not look at addresses: a form that needs multiples of 16 is refused when it is to run.
TEST(MatmulSplits, FormThatIsRefusedGivesWay) {
  ENTRAIN_REQUIRE_GPU();
  if (!OnEmulatedGpu()) GTEST_SKIP() << "a real device may fault instead";
  const auto context = OtherContext();
  const MatmulCase c = {.m = 16, .n = 20, .k = 24, .padding = 4};
  MatmulOperandTwins operands(c);
  const auto shifted = [&](MatmulArgs args) {
    args.a = TensorView(args.a.data<float>() + 1, DType::kF32, {c.m, c.k - 1}, args.a.row_stride());
    args.b = args.b.Rows(0, c.k - 1);
    return args;
  };
  auto& plans = cuda::MatmulPlans::Of(*context);
  const cublasLtMatmulAlgo_t vectors =
      plans.Find(cuda::ProblemOf(operands.GpuArgs(c))).algorithms.front().algo;
  const MatmulArgs args = shifted(operands.GpuArgs(c));
  const cuda::MatmulProblem problem = cuda::ProblemOf(args);
  ASSERT_TRUE(plans.Choose(problem, &vectors));
  const size_t algorithms = plans.Find(problem).algorithms.size();
  Matmul(*context, args);
  Synchronize(*context);
  EXPECT_EQ(plans.Find(problem).algorithms.size(), algorithms - 1);
  Matmul(Cpu(), shifted(operands.CpuArgs(c)));
  EXPECT_LT(operands.out.Error(), ToleranceOf(c));
}

// A measured choice, whatever it is, goes to another context, and comes before the rule.
TEST(MatmulSplits, MeasurementMayChooseAnyForm) {
  ENTRAIN_REQUIRE_GPU();
  const auto first = OtherContext(), second = OtherContext();
  OutBits(*first, kFew);
  const auto& algorithms = PlanOf(*first, kFew).algorithms;
  const auto outcomes = TuneMatmuls(*first, {.rounds = 1, .round_ms = 0.0});
  ASSERT_EQ(outcomes.size(), 1);
  EXPECT_EQ(outcomes[0].algorithms, static_cast<int>(algorithms.size()));
  const cublasLtMatmulAlgo_t other = algorithms.back().algo;
  ASSERT_TRUE(cuda::MatmulPlans::Of(*first).Choose(
      cuda::ProblemOf(MatmulOperandTwins(kFew).GpuArgs(kFew)), &other));
  EXPECT_EQ(UseMatmulTable(*second, MatmulTable(*first)).value(), 1);
  EXPECT_EQ(OutBits(*second, kFew), OutBits(*first, kFew));
  EXPECT_EQ(MatmulTable(*second), MatmulTable(*first));
}

}  // namespace
}  // namespace entrain
