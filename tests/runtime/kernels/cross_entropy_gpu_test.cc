#include <gtest/gtest.h>

#include <iterator>
#include <limits>
#include <vector>

#include "runtime/kernels/cross_entropy.h"
#include "tests/support/gpu_twin.h"

namespace entrain {
namespace {

struct Case {
  int64_t rows;
  int64_t vocab;
  int64_t width;
  double spread = 1.0;  // standard deviation of the logits
  double offset = 0.0;
  int64_t stride = 0;
  int64_t first_token = 0;
};

// Rows of fours and others, rows of one step of a block and of several, narrow and wide blocks.
constexpr Case kCases[] = {
    {.rows = 5, .vocab = 7, .width = 7},
    {.rows = 300, .vocab = 12, .width = 12},
    {.rows = 3, .vocab = 257, .width = 384, .spread = 4.0, .stride = 392},
    {.rows = 3, .vocab = 509, .width = 513, .spread = 4.0, .first_token = 1000},
    {.rows = 3, .vocab = 5003, .width = 5120, .spread = 10.0, .stride = 5124},
    {.rows = 2, .vocab = 17001, .width = 17024},
    {.rows = 2, .vocab = 17001, .width = 17001, .spread = 3.0},
    {.rows = 2, .vocab = 2048, .width = 2048, .offset = 300.0},
    {.rows = 2, .vocab = 1, .width = 16},
    {.rows = 1, .vocab = 3000, .width = 3000, .offset = -1e4}};

// Operands and results of the three steps.
struct Operands {
  explicit Operands(const Case& c)
      : logits(DType::kF32, {c.rows, c.width}, c.stride),
        targets(DType::kI32, {c.rows}),
        max(DType::kF32, {c.rows}),
        sum(DType::kF64, {c.rows}),
        target(DType::kF64, {c.rows}),
        loss(DType::kF32, {c.rows}),
        vocab{c.first_token, c.vocab} {
    logits.Normal(1, c.spread, c.offset);
    targets.Set(
        [&](int64_t i) { return static_cast<double>(c.first_token + (i * 997 + 6) % c.vocab); });
    for (GpuTwin* output : {&max, &sum, &target, &loss}) output->Fill(NAN);
  }

  template <typename View>
  void Statistics(Context& context, View&& view) {
    SoftmaxStatistics(context, {.logits = view(logits),
                                .targets = view(targets),
                                .vocab = vocab,
                                .max = view(max),
                                .sum = view(sum),
                                .target = view(target)});
  }
  template <typename View>
  void Loss(Context& context, View&& view, const TensorView& dlogits, float scale) {
    CrossEntropy(context, {.logits = view(logits),
                           .targets = view(targets),
                           .vocab = vocab,
                           .max = view(max),
                           .sum = view(sum),
                           .target = view(target),
                           .loss = view(loss),
                           .dlogits = dlogits,
                           .scale = scale});
  }

  template <typename View>
  void Whole(Context& context, View&& view, const TensorView& dlogits, float scale) {
    WholeCrossEntropy(context, {.logits = view(logits),
                                .targets = view(targets),
                                .vocab = vocab,
                                .max = view(max),
                                .sum = view(sum),
                                .target = view(target),
                                .loss = view(loss),
                                .dlogits = dlogits,
                                .scale = scale});
  }

  GpuTwin logits;
  GpuTwin targets;
  GpuTwin max;
  GpuTwin sum;
  GpuTwin target;
  GpuTwin loss;
  VocabRange vocab;
};

TensorView GradientView(const TensorView& logits, DType dtype) {
  const int64_t stride = logits.row_stride() * (dtype == DType::kBf16 ? 2 : 1);
  return {logits.raw(), dtype, {logits.dim(0), logits.dim(1)}, stride};
}

Doubles ValuesOf(const TensorView& view) {
  Doubles values;
  DispatchFloat(view.dtype(), [&]<typename T>(T) {
    for (int64_t row = 0; row < view.rows(); ++row) {
      for (int64_t i = 0; i < view.dim(-1); ++i) {
        values.push_back(static_cast<float>(view.row<T>(row)[i]));
      }
    }
  });
  return values;
}

// The gradient that lies over the GPU's logits.
Doubles GpuGradient(const Operands& operands, DType dtype) {
  std::vector<uint8_t> bytes = operands.logits.gpu.Bytes();
  const TensorView view = operands.logits.gpu.view();
  const TensorView on_host(bytes.data(), DType::kF32, {view.dim(0), view.dim(1)},
                           view.row_stride());
  return ValuesOf(GradientView(on_host, dtype));
}

TEST(CrossEntropyGpuTest, AgreesWithTheCpu) {
  ENTRAIN_REQUIRE_GPU();
  for (const Case& c : kCases) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      SCOPED_TRACE(testing::Message() << c.vocab << " of " << c.width << " columns");
      Operands operands(c);
      OnBoth([&](Context& context, auto view) {
        operands.Statistics(context, view);
        const TensorView dlogits = GradientView(view(operands.logits), dtype);
        operands.Loss(context, view, dlogits, 0.25F);
      });
      EXPECT_EQ(operands.max.gpu.GetDoubles(), operands.max.cpu.values());
      EXPECT_EQ(operands.target.gpu.GetDoubles(), operands.target.cpu.values());
      // Both add exponentials in fp32 over about a hundred columns.
      EXPECT_LT(operands.sum.Error(), 1e-6);
      EXPECT_LT(operands.loss.Error(), 1e-6);
      const Doubles gradient = GpuGradient(operands, dtype);
      EXPECT_LT(RelativeError(gradient, ValuesOf(GradientView(operands.logits.cpu.view(), dtype))),
                Tolerance(dtype));
      for (int64_t row = 0; row < c.rows; ++row) {
        for (int64_t i = c.vocab; i < c.width; ++i) ASSERT_EQ(gradient[row * c.width + i], 0.0);
      }
    }
  }
}

// Beside the others, rows that shared memory does not hold.
std::vector<Case> WholeCases() {
  std::vector<Case> cases(std::begin(kCases), std::end(kCases));
  cases.push_back({.rows = 2, .vocab = 70001, .width = 70016, .spread = 5.0, .stride = 70020});
  cases.push_back({.rows = 1, .vocab = 61000, .width = 61001, .spread = 5.0});
  return cases;
}

TEST(WholeCrossEntropyGpuTest, AgreesWithTheCpuAndItself) {
  ENTRAIN_REQUIRE_GPU();
  for (const Case& c : WholeCases()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      SCOPED_TRACE(testing::Message() << c.vocab << " of " << c.width << " columns");
      Operands operands(c), again(c);
      OnBoth([&](Context& context, auto view) {
        operands.Whole(context, view, GradientView(view(operands.logits), dtype), 0.25F);
      });
      OnGpu([&](Context& context, auto view) {
        again.Whole(context, view, GradientView(view(again.logits), dtype), 0.25F);
      });
      EXPECT_EQ(operands.loss.gpu.Bytes(), again.loss.gpu.Bytes());
      EXPECT_EQ(operands.logits.gpu.Bytes(), again.logits.gpu.Bytes());
      EXPECT_LT(operands.loss.Error(), 1e-6);
      const Doubles gradient = GpuGradient(operands, dtype);
      EXPECT_LT(RelativeError(gradient, ValuesOf(GradientView(operands.logits.cpu.view(), dtype))),
                Tolerance(dtype));
      for (int64_t row = 0; row < c.rows; ++row) {
        for (int64_t i = c.vocab; i < c.width; ++i) ASSERT_EQ(gradient[row * c.width + i], 0.0);
      }
    }
  }
}

TEST(WholeCrossEntropyGpuTest, LossOnlyLeavesLogits) {
  ENTRAIN_REQUIRE_GPU();
  Operands operands(kCases[2]);
  const std::vector<uint8_t> before = operands.logits.gpu.Bytes();
  OnBoth([&](Context& context, auto view) { operands.Whole(context, view, TensorView(), 1.0F); });
  EXPECT_EQ(operands.logits.gpu.Bytes(), before);
  EXPECT_LT(operands.loss.Error(), 1e-6);
}

TEST(WholeCrossEntropyGpuTest, NonFiniteStaysInItsRowAndPaddingHasNoPart) {
  ENTRAIN_REQUIRE_GPU();
  const Case& c = kCases[4];
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Operands operands(c);
    std::vector<float> logits = operands.logits.gpu.Get();
    for (size_t i = 0; i < logits.size(); ++i) {
      if (static_cast<int64_t>(i) % c.width >= c.vocab) logits[i] = NAN;
    }
    logits[4321] = value;
    operands.logits.gpu.Set(logits);
    OnGpu([&](Context& context, auto view) {
      operands.Whole(context, view, GradientView(view(operands.logits), DType::kBf16), 1.0F);
    });
    const std::vector<float> loss = operands.loss.gpu.Get();
    EXPECT_FALSE(std::isfinite(loss[0]));
    EXPECT_TRUE(std::isfinite(loss[1]));
    const Doubles gradient = GpuGradient(operands, DType::kBf16);
    EXPECT_FALSE(std::isfinite(gradient[0]));
    EXPECT_TRUE(std::isfinite(gradient[static_cast<size_t>(c.width)]));
    EXPECT_EQ(gradient[static_cast<size_t>(c.width) - 1], 0.0);
  }
}

TEST(CrossEntropyGpuTest, SameBitsEveryTime) {
  ENTRAIN_REQUIRE_GPU();
  for (const Case& c : kCases) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      std::vector<std::vector<uint8_t>> first;
      for (int run = 0; run < 2; ++run) {
        Operands operands(c);
        OnGpu([&](Context& context, auto view) {
          operands.Statistics(context, view);
          const TensorView dlogits = GradientView(view(operands.logits), dtype);
          operands.Loss(context, view, dlogits, 1.0F);
        });
        const std::vector outputs = {operands.sum.gpu.Bytes(), operands.loss.gpu.Bytes(),
                                     operands.logits.gpu.Bytes()};
        if (run == 0) first = outputs;
        EXPECT_EQ(outputs, first);
      }
    }
  }
}

TEST(CrossEntropyGpuTest, LossOnlyLeavesLogits) {
  ENTRAIN_REQUIRE_GPU();
  Operands operands(kCases[2]);
  const std::vector<uint8_t> before = operands.logits.gpu.Bytes();
  OnBoth([&](Context& context, auto view) {
    operands.Statistics(context, view);
    operands.Loss(context, view, TensorView(), 1.0F);
  });
  EXPECT_EQ(operands.logits.gpu.Bytes(), before);
  EXPECT_LT(operands.loss.Error(), 1e-6);
}

// A rank whose columns hold none of the targets, and one without columns.
TEST(CrossEntropyGpuTest, TargetsOfOtherRanks) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t count : {int64_t{257}, int64_t{0}}) {
    Operands operands(kCases[2]);
    operands.vocab = {5000, count};
    OnBoth([&](Context& context, auto view) { operands.Statistics(context, view); });
    EXPECT_EQ(operands.target.gpu.GetDoubles(), Doubles(3, 0.0));
    EXPECT_EQ(operands.max.gpu.GetDoubles(), operands.max.cpu.values());
    EXPECT_LT(operands.sum.Error(), 1e-6);
    // Other ranks' maximum and sum.
    operands.max.Fill(40.0);
    operands.sum.Fill(3.0);
    OnBoth([&](Context& context, auto view) {
      operands.Loss(context, view, view(operands.logits), 2.0F);
    });
    EXPECT_LT(operands.logits.Error(), Tolerance(DType::kF32));
    EXPECT_EQ(operands.loss.gpu.GetDoubles(), operands.loss.cpu.values());
  }
}

TEST(CrossEntropyGpuTest, NonFiniteLogitsGiveNonFiniteLoss) {
  ENTRAIN_REQUIRE_GPU();
  const Case& c = kCases[4];
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Operands operands(c);
    std::vector<float> logits = operands.logits.gpu.Get();
    logits[4321] = value;
    operands.logits.gpu.Set(logits);
    OnGpu([&](Context& context, auto view) {
      operands.Statistics(context, view);
      operands.Loss(context, view, GradientView(view(operands.logits), DType::kBf16), 1.0F);
    });
    const std::vector<float> loss = operands.loss.gpu.Get();
    EXPECT_FALSE(std::isfinite(loss[0]));
    EXPECT_TRUE(std::isfinite(loss[1]));
    const Doubles gradient = GpuGradient(operands, DType::kBf16);
    EXPECT_FALSE(std::isfinite(gradient[0]));
    EXPECT_TRUE(std::isfinite(gradient[static_cast<size_t>(c.width)]));
    EXPECT_EQ(gradient[static_cast<size_t>(c.width) - 1], 0.0);
  }
}

TEST(CrossEntropyGpuTest, PaddingHasNoPartWhateverItHolds) {
  ENTRAIN_REQUIRE_GPU();
  for (const Case& c : {kCases[2], kCases[3]}) {
    Operands operands(c);
    std::vector<float> logits = operands.logits.gpu.Get();
    for (size_t i = 0; i < logits.size(); ++i) {
      if (static_cast<int64_t>(i) % c.width >= c.vocab) logits[i] = NAN;
    }
    operands.logits.gpu.Set(logits);
    OnBoth([&](Context& context, auto view) {
      operands.Statistics(context, view);
      operands.Loss(context, view, view(operands.logits), 1.0F);
    });
    EXPECT_LT(operands.loss.Error(), 1e-6);
    EXPECT_LT(operands.logits.Error(), Tolerance(DType::kF32));
  }
}

TEST(CrossEntropyGpuTest, Rescale) {
  ENTRAIN_REQUIRE_GPU();
  constexpr int64_t kRows = 777;
  GpuTwin sum(DType::kF64, {kRows}), from(DType::kF32, {kRows}), to(DType::kF32, {kRows});
  sum.Normal(1, 1.0, 10.0);
  from.Normal(2, 3.0);
  to.Normal(3, 3.0, 5.0);
  OnBoth([&](Context& context, auto view) {
    SoftmaxRescale(context, {.sum = view(sum), .from = view(from), .to = view(to)});
  });
  EXPECT_LT(sum.Error(), 1e-14);
}

TEST(CrossEntropyGpuTest, NoRows) {
  ENTRAIN_REQUIRE_GPU();
  GpuTensor none(DType::kF32, {0, 8}), targets(DType::kI32, {0}), f32(DType::kF32, {0}),
      f64(DType::kF64, {0});
  SoftmaxStatistics(
      Gpu(),
      {.logits = none, .targets = targets, .vocab = {0, 8}, .max = f32, .sum = f64, .target = f64});
  CrossEntropy(Gpu(), {.logits = none,
                       .targets = targets,
                       .vocab = {0, 8},
                       .max = f32,
                       .sum = f64,
                       .target = f64,
                       .loss = f32,
                       .dlogits = none});
  SoftmaxRescale(Gpu(), {.sum = f64, .from = f32, .to = f32});
  Synchronize(Gpu());
}

}  // namespace
}  // namespace entrain
