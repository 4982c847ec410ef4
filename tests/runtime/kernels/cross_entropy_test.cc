#include "runtime/kernels/cross_entropy.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/cross_entropy_case.h"
#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

struct Case {
  int64_t rows;
  int64_t vocab;
  int64_t width;
  double spread = 1.0;  // standard deviation of the logits
  double offset = 0.0;
};

constexpr Case kCases[] = {{.rows = 5, .vocab = 7, .width = 7},
                           {.rows = 3, .vocab = 257, .width = 384, .spread = 4.0},
                           {.rows = 4, .vocab = 5003, .width = 5120, .spread = 10.0},
                           {.rows = 2, .vocab = 2048, .width = 2048, .offset = 300.0},
                           {.rows = 2, .vocab = 1, .width = 16},
                           {.rows = 1, .vocab = 3000, .width = 3000, .offset = -1e4}};

TestTensor Logits(const Case& c, DType dtype = DType::kF32) {
  TestTensor logits = TestTensor::Normal(dtype, {c.rows, c.width}, 1, c.spread, c.width + 8);
  for (int64_t i = 0; i < logits.size(); ++i) logits.Set(i, logits.At(i) + c.offset);
  return logits;
}

TestTensor Targets(const Case& c) {
  TestTensor targets(DType::kI32, {c.rows});
  for (int64_t i = 0; i < c.rows; ++i) targets.Set(i, static_cast<double>((i * 997 + 6) % c.vocab));
  return targets;
}

// Losses, then each row's softmax − onehot.
struct Reference {
  Doubles loss;
  Doubles gradient;
};

Reference ReferenceOf(const Case& c, DType dtype = DType::kF32) {
  const TestTensor logits = Logits(c, dtype);
  const TestTensor targets = Targets(c);
  Reference reference;
  for (int64_t row = 0; row < c.rows; ++row) {
    const auto target = static_cast<int64_t>(targets.At(row));
    double most = -1e300;
    for (int64_t i = 0; i < c.vocab; ++i) most = std::max(most, logits.At(row * c.width + i));
    double sum = 0.0;
    for (int64_t i = 0; i < c.vocab; ++i) sum += std::exp(logits.At(row * c.width + i) - most);
    reference.loss.push_back(most + std::log(sum) - logits.At(row * c.width + target));
    for (int64_t i = 0; i < c.width; ++i) {
      const double probability =
          i < c.vocab ? std::exp(logits.At(row * c.width + i) - most) / sum : 0.0;
      reference.gradient.push_back(probability - (i == target ? 1.0 : 0.0));
    }
  }
  return reference;
}

// What a rank that holds the whole vocabulary runs.
struct WholeArgs {
  TensorView logits;
  TensorView targets;
  TensorView loss;
  TensorView dlogits;
  int64_t vocab = 0;
  float scale = 1.0F;
};
void CrossEntropyOfAll(Context& context, const WholeArgs& args) {
  const int64_t rows = args.logits.rows();
  TestTensor max = TestTensor::F32({rows});
  TestTensor sum(DType::kF64, {rows});
  TestTensor target(DType::kF64, {rows});
  const CrossEntropyArgs whole = {.logits = args.logits,
                                  .targets = args.targets,
                                  .vocab = {0, args.vocab},
                                  .max = max.view(),
                                  .sum = sum.view(),
                                  .target = target.view(),
                                  .loss = args.loss,
                                  .dlogits = args.dlogits,
                                  .scale = args.scale};
  SoftmaxStatistics(context, whole.statistics());
  CrossEntropy(context, whole);
}

TEST(CrossEntropyTest, LossAndGradientInPlace) {
  for (const Case& c : kCases) {
    for (const auto [logits_type, dtype] : kCrossEntropyTypes) {
      const Reference reference = ReferenceOf(c, logits_type);
      const double scale = 0.25;
      const auto outputs = OnAnyThreads([&, type = logits_type, dtype = dtype](Context& context) {
        TestTensor logits = Logits(c, type);
        TestTensor targets = Targets(c);
        TestTensor loss = TestTensor::F32({c.rows});
        CrossEntropyOfAll(context, {.logits = logits.view(),
                                    .targets = targets.view(),
                                    .loss = loss.view(),
                                    .dlogits = GradientView(logits.view(), dtype),
                                    .vocab = c.vocab,
                                    .scale = static_cast<float>(scale)});
        return std::vector{loss, logits};
      });
      EXPECT_LT(RelativeError(outputs[0].values(), reference.loss), 1e-6) << c.vocab;
      TestTensor logits = outputs[1];
      Doubles gradient = ValuesOf(GradientView(logits.view(), dtype));
      for (double& value : gradient) value /= scale;
      EXPECT_LT(RelativeError(gradient, reference.gradient), Tolerance(dtype)) << c.vocab;
      for (int64_t row = 0; row < c.rows; ++row) {
        for (int64_t i = c.vocab; i < c.width; ++i) ASSERT_EQ(gradient[row * c.width + i], 0.0);
      }
    }
  }
}

TEST(CrossEntropyTest, WholeIsItsStepsToTheBit) {
  for (const Case& c : kCases) {
    for (const auto [logits_type, dtype] : kCrossEntropyTypes) {
      TestTensor logits = Logits(c, logits_type), in_steps = Logits(c, logits_type);
      TestTensor targets = Targets(c);
      TestTensor loss = TestTensor::F32({c.rows}), loss_in_steps = TestTensor::F32({c.rows});
      TestTensor max = TestTensor::F32({c.rows});
      TestTensor sum(DType::kF64, {c.rows}), target(DType::kF64, {c.rows});
      const auto context = CpuContext(2);
      CrossEntropyOfAll(*context, {.logits = in_steps.view(),
                                   .targets = targets.view(),
                                   .loss = loss_in_steps.view(),
                                   .dlogits = GradientView(in_steps.view(), dtype),
                                   .vocab = c.vocab});
      WholeCrossEntropy(*context, {.logits = logits.view(),
                                   .targets = targets.view(),
                                   .vocab = {0, c.vocab},
                                   .max = max.view(),
                                   .sum = sum.view(),
                                   .target = target.view(),
                                   .loss = loss.view(),
                                   .dlogits = GradientView(logits.view(), dtype)});
      EXPECT_EQ(loss.bytes(), loss_in_steps.bytes());
      EXPECT_EQ(logits.bytes(), in_steps.bytes());
    }
  }
}

TEST(CrossEntropyTest, LossOnlyLeavesLogits) {
  const Case& c = kCases[1];
  TestTensor logits = Logits(c);
  TestTensor targets = Targets(c);
  TestTensor loss = TestTensor::F32({c.rows});
  CrossEntropyOfAll(
      *CpuContext(2),
      {.logits = logits.view(), .targets = targets.view(), .loss = loss.view(), .vocab = c.vocab});
  EXPECT_EQ(logits.bytes(), Logits(c).bytes());
  EXPECT_LT(RelativeError(loss.values(), ReferenceOf(c).loss), 1e-6);
}

TEST(CrossEntropyTest, GradientAgreesWithDifferencesOfTheLoss) {
  const Case c = {.rows = 1, .vocab = 23, .width = 23};
  TestTensor logits = Logits(c);
  TestTensor targets = Targets(c);
  TestTensor loss = TestTensor::F32({1});
  const auto target = static_cast<int64_t>(targets.At(0));
  const Doubles numeric = NumericGradient(
      [&](const Doubles& x) {
        double sum = 0.0;
        for (const double value : x) sum += std::exp(value);
        return std::log(sum) - x[target];
      },
      logits.values());
  CrossEntropyOfAll(*CpuContext(1), {.logits = logits.view(),
                                     .targets = targets.view(),
                                     .loss = loss.view(),
                                     .dlogits = logits.view(),
                                     .vocab = c.vocab});
  EXPECT_LT(RelativeError(logits.values(), numeric), 1e-6);
}

TEST(CrossEntropyTest, NonFiniteLogitsGiveNonFiniteLoss) {
  for (const double value : {double{NAN}, double{INFINITY}}) {
    const Case& c = kCases[2];
    TestTensor logits = Logits(c);
    TestTensor targets = Targets(c);
    TestTensor loss = TestTensor::F32({c.rows});
    logits.Set(4321, value);
    CrossEntropyOfAll(*CpuContext(2), {.logits = logits.view(),
                                       .targets = targets.view(),
                                       .loss = loss.view(),
                                       .dlogits = logits.view(),
                                       .vocab = c.vocab});
    EXPECT_FALSE(std::isfinite(loss.At(0)));
    EXPECT_TRUE(std::isfinite(loss.At(1)));
  }
}

TEST(CrossEntropyTest, PaddingHasNoPartWhateverItHolds) {
  const Case& c = kCases[1];
  TestTensor logits = Logits(c);
  TestTensor targets = Targets(c);
  TestTensor loss = TestTensor::F32({c.rows});
  for (int64_t i = c.vocab; i < c.width; ++i) logits.Set(i, NAN);
  CrossEntropyOfAll(*CpuContext(1), {.logits = logits.view(),
                                     .targets = targets.view(),
                                     .loss = loss.view(),
                                     .dlogits = logits.view(),
                                     .vocab = c.vocab});
  EXPECT_LT(RelativeError(loss.values(), ReferenceOf(c).loss), 1e-6);
  EXPECT_EQ(logits.At(c.vocab), 0.0);
}

TEST(CrossEntropyDeathTest, GradientMustLieOverLogits) {
  const Case& c = kCases[0];
  TestTensor logits = Logits(c);
  TestTensor other = Logits(c);
  TestTensor targets = Targets(c);
  TestTensor loss = TestTensor::F32({c.rows});
  const auto context = CpuContext(1);
  EXPECT_DEATH(CrossEntropyOfAll(*context, {.logits = logits.view(),
                                            .targets = targets.view(),
                                            .loss = loss.view(),
                                            .dlogits = other.view(),
                                            .vocab = c.vocab}),
               "dlogits must lie over logits");
  EXPECT_DEATH(
      CrossEntropyOfAll(
          *context,
          {.logits = logits.view(), .targets = targets.view(), .loss = loss.view(), .vocab = 8}),
      "vocab 8 of 7 columns");
}

}  // namespace
}  // namespace entrain
