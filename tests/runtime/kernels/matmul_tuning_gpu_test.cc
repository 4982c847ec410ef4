#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/kernels/matmul.h"
#include "runtime/kernels/matmul_plans_cuda.h"
#include "runtime/kernels/matmul_tuning.h"
#include "tests/support/gpu_test.h"
#include "tests/support/matmul_gpu_case.h"

namespace entrain {
namespace {

// ---- plans ----

TEST(MatmulPlansTest, OnePlanAProblem) {
  ENTRAIN_REQUIRE_GPU();
  const auto context = OtherContext();
  const auto& plans = cuda::MatmulPlans::Of(*context).plans();
  const MatmulCase c = {
      .m = 16, .n = 24, .k = 32, .dtype = DType::kBf16, .out_dtype = DType::kBf16};
  OutBits(*context, c);
  OutBits(*context, c);
  EXPECT_EQ(plans.size(), 1);
  MatmulCase other = c;
  other.bias = true;
  OutBits(*context, other);
  other.m = 8;
  OutBits(*context, other);
  EXPECT_EQ(plans.size(), 3);
  // Fused, and not with the product alone beside it.
  other.epilogue = MatmulEpilogue::kGelu;
  OutBits(*context, other);
  EXPECT_EQ(plans.size(), 4);
  // What is added, and where it lies, is part of the problem.
  MatmulCase sum = c;
  sum.out_dtype = DType::kF32;
  OutBits(*context, sum);
  sum.addend = true;
  OutBits(*context, sum);
  sum.addend = false;
  sum.accumulate = true;
  OutBits(*context, sum);
  EXPECT_EQ(plans.size(), 7);
}

// A case with many algorithms to choose from, whose last bits differ.
constexpr MatmulCase kChoice = {.m = 24, .n = 32, .k = 1024, .transpose_a = true};

cuda::MatmulProblem ProblemOf(const MatmulCase& c) {
  return cuda::ProblemOf(MatmulOperandTwins(c).GpuArgs(c));
}

// Makes the last algorithm of a case the one in use.
void ChooseLast(Context& context, const MatmulCase& c) {
  auto& plans = cuda::MatmulPlans::Of(context);
  const cuda::MatmulProblem problem = ProblemOf(c);
  const cublasLtMatmulAlgo_t last = plans.Find(problem).algorithms.back().algo;
  ASSERT_TRUE(plans.Choose(problem, &last));
}

TEST(MatmulTableTest, BringsChoicesToAnotherContext) {
  ENTRAIN_REQUIRE_GPU();
  const auto first = OtherContext(), second = OtherContext();
  const std::vector<uint8_t> heuristic = OutBits(*first, kChoice);
  ChooseLast(*first, kChoice);
  const std::vector<uint8_t> chosen = OutBits(*first, kChoice);
  if (OnEmulatedGpu()) {
    EXPECT_NE(chosen, heuristic);
  }
  const std::string table = MatmulTable(*first);
  EXPECT_EQ(UseMatmulTable(*second, table).value(), 1);
  EXPECT_EQ(OutBits(*second, kChoice), chosen);
  EXPECT_EQ(MatmulTable(*second), table);
}

TEST(MatmulTableTest, KnowsAddends) {
  ENTRAIN_REQUIRE_GPU();
  MatmulCase c = kChoice;
  c.addend = true;
  const auto first = OtherContext(), second = OtherContext();
  OutBits(*first, kChoice);
  ChooseLast(*first, c);
  const std::vector<uint8_t> chosen = OutBits(*first, c);
  EXPECT_EQ(UseMatmulTable(*second, MatmulTable(*first)).value(), 2);
  EXPECT_EQ(OutBits(*second, c), chosen);
  EXPECT_EQ(OutBits(*second, kChoice), OutBits(*first, kChoice));
}

TEST(MatmulTableTest, EpiloguesMayRunApart) {
  ENTRAIN_REQUIRE_GPU();
  const MatmulCase c = {.m = 16,
                        .n = 24,
                        .k = 32,
                        .dtype = DType::kBf16,
                        .out_dtype = DType::kBf16,
                        .epilogue = MatmulEpilogue::kGelu};
  const auto first = OtherContext(), second = OtherContext();
  EXPECT_TRUE(cuda::MatmulPlans::Of(*first).Choose(ProblemOf(c), nullptr));
  const std::vector<uint8_t> apart = OutBits(*first, c);
  EXPECT_EQ(UseMatmulTable(*second, MatmulTable(*first)).value(), 2);
  EXPECT_EQ(OutBits(*second, c), apart);
  EXPECT_TRUE(cuda::MatmulPlans::Of(*second).Find(ProblemOf(c)).algorithms.empty());
}

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

TEST(MatmulTableTest, RefusesWhatIsNotForHere) {
  ENTRAIN_REQUIRE_GPU();
  const auto context = OtherContext();
  const std::vector<uint8_t> heuristic = OutBits(*context, kChoice);
  ChooseLast(*context, kChoice);
  const std::string table = MatmulTable(*context);
  const auto other = OtherContext();
  const auto code = [&](const std::string& text) {
    return UseMatmulTable(*other, text).status().code();
  };
  EXPECT_EQ(code(""), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(code(Replaced(table, "table 2", "table 1")), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(code(Replaced(table, " multi", "0 multi")), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(code(Replaced(table, "24 32", "24 -2")), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Replaced(table, "f32", "f31")), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Replaced(table, " none ", " some ")), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(table.substr(0, table.size() - 3)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(table + "1 2 3\n"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(table + "\n"), absl::StatusCode::kInvalidArgument);
  // Of two lines before products, one product and the damaged line.
  const auto bad = UseMatmulTable(*other, table + "1 2 3\n", 8).status();
  EXPECT_EQ(std::string(bad.message()), "line 11 describes no matrix product: 1 2 3");
  EXPECT_EQ(OutBits(*other, kChoice), heuristic);
}

// A table with algorithms that cuBLASLt does not know: the heuristics' choice stays.
TEST(MatmulTableTest, LeavesOutUnknownAlgorithms) {
  ENTRAIN_REQUIRE_GPU();
  if (!OnEmulatedGpu()) GTEST_SKIP() << "a real library may take any bytes for an algorithm";
  const auto context = OtherContext();
  const std::vector<uint8_t> heuristic = OutBits(*context, kChoice);
  std::string table = MatmulTable(*context);
  const size_t algorithm = table.rfind(' ') + 1;
  table.replace(algorithm, 4, "0000");
  EXPECT_EQ(UseMatmulTable(*context, table).value(), 0);
  EXPECT_EQ(OutBits(*context, kChoice), heuristic);
}

// Which of a table's products are made here.
TEST(MatmulTableTest, CountsWhatIsRunByIt) {
  ENTRAIN_REQUIRE_GPU();
  const MatmulCase fused = {.m = 16,
                            .n = 24,
                            .k = 32,
                            .dtype = DType::kBf16,
                            .out_dtype = DType::kBf16,
                            .epilogue = MatmulEpilogue::kGelu};
  MatmulCase sum = kChoice;
  sum.addend = true;
  const auto first = OtherContext(), second = OtherContext();
  OutBits(*first, kChoice);
  OutBits(*first, fused);
  ASSERT_EQ(UseMatmulTable(*second, MatmulTable(*first)).value(), 2);
  EXPECT_EQ(KindsRun(*second).all, 0);
  OutBits(*second, sum);
  EXPECT_EQ(KindsRun(*second).all, 1);
  EXPECT_EQ(KindsRun(*second).by_table, 0);
  OutBits(*second, kChoice);
  OutBits(*second, kChoice);
  EXPECT_EQ(KindsRun(*second).all, 2);
  EXPECT_EQ(KindsRun(*second).by_table, 1);
}

// ---- tuning ----

TEST(MatmulTuningTest, MeasuresWhatHasRun) {
  ENTRAIN_REQUIRE_GPU();
  const auto context = OtherContext();
  EXPECT_TRUE(TuneMatmuls(*context, {}).empty());
  const MatmulCase fused = {.m = 16,
                            .n = 24,
                            .k = 32,
                            .dtype = DType::kBf16,
                            .out_dtype = DType::kBf16,
                            .bias = true,
                            .epilogue = MatmulEpilogue::kGelu};
  MatmulCase sum = kChoice;
  sum.addend = true;
  OutBits(*context, kChoice);
  OutBits(*context, sum);
  OutBits(*context, fused);
  const std::vector<TunedMatmul> outcomes =
      TuneMatmuls(*context, {.rounds = 3, .round_ms = OnEmulatedGpu() ? 0.0 : 0.2});
  // The fused product's without its epilogue too.
  ASSERT_EQ(outcomes.size(), 4);
  for (const TunedMatmul& outcome : outcomes) {
    EXPECT_GE(outcome.algorithms, 1) << outcome.product;
    EXPECT_LT(outcome.choice, outcome.algorithms) << outcome.product;
    EXPECT_LE(outcome.after_ms, outcome.before_ms) << outcome.product;
  }
  EXPECT_EQ(outcomes.back().product, "16x24x32 bf16 -> bf16 NN bias gelu");
  // Whatever was chosen is a product all the same, and goes to another context.
  for (const MatmulCase& c : {kChoice, sum, fused}) {
    MatmulOperandTwins operands(c);
    Matmul(*context, operands.GpuArgs(c));
    Synchronize(*context);
    Matmul(Cpu(), operands.CpuArgs(c));
    EXPECT_LT(operands.out.Error(), ToleranceOf(c)) << c;
  }
  const auto other = OtherContext();
  EXPECT_EQ(UseMatmulTable(*other, MatmulTable(*context)).value(), 4);
  EXPECT_EQ(OutBits(*other, kChoice), OutBits(*context, kChoice));
}

}  // namespace
}  // namespace entrain
