// Against the formulas, written plainly.
#include "runtime/kernels/entropy_penalty.h"

#include <gtest/gtest.h>

#include "tests/support/penalty_operands.h"

namespace entrain {
namespace {

constexpr int64_t kLayers = 2, kBatch = 3, kHeads = 2, kPositions = 7, kStride = 5;
constexpr double kMargin = 0.1, kStrength = 0.25;

struct Penalty {
  double delta, gate;
  Penalty(double entropy, double threshold, double max)
      : delta(entropy - threshold * max), gate(std::abs(delta) > kMargin * max ? 1.0 : 0.0) {}
};

class EntropyPenaltyTest : public testing::Test {
 protected:
  EntropyPenaltyTest() {
    for (int64_t i = 0; i < entropy_.size(); ++i) entropy_.Set(i, EntropyAt(i, kPositions));
    for (int64_t t = 0; t < kPositions; ++t) max_.Set(t, MaxEntropyAt(t));
    for (int64_t i = 0; i < threshold_.size(); ++i) threshold_.Set(i, 0.6 + 0.1 * i);
    strength_.Fill(kStrength);
  }
  double Entropy(int64_t l, int64_t b, int64_t h, int64_t t) const {
    return entropy_.At(((l * kBatch + b) * kHeads + h) * kPositions + t);
  }

  TestTensor entropy_{DType::kF32, {kLayers, kBatch, kHeads, kPositions}};
  TestTensor threshold_{DType::kF32, {kLayers, kHeads}, kStride};
  TestTensor max_{DType::kF64, {kPositions}};
  TestTensor strength_{DType::kF64, {1}};
  TestTensor measured_{DType::kF64, {1 + kLayers * kHeads}};
};

TEST_F(EntropyPenaltyTest, OfHeads) {
  constexpr int64_t kRows = kBatch * kPositions, kCount = 12;
  constexpr double kMax = 1.3;
  TestTensor sums(DType::kF64, {kLayers, kHeads, 2}), mean = TestTensor::F32({kLayers, kHeads});
  for (int64_t i = 0; i < kLayers * kHeads; ++i) {
    mean.Set(i, 0.5 + 0.2 * static_cast<double>(i));
    sums.Set(2 * i, mean.At(i) * kRows);
  }
  TestTensor gradient = TestTensor::F32({kLayers, kHeads});
  TestTensor dthreshold(DType::kF32, {kLayers, kHeads}, kStride);
  for (const bool of_sums : {true, false}) {
    for (const bool accumulate : {false, true}) {
      measured_.Fill(2.0);
      dthreshold.Fill(3.0);
      HeadPenalty(*CpuContext(2), {.sums = of_sums ? sums.view() : TensorView(),
                                   .rows = kRows,
                                   .mean = of_sums ? TensorView() : mean.view(),
                                   .threshold = threshold_.view(),
                                   .max_entropy = kMax,
                                   .margin = kMargin,
                                   .strength = strength_.view(),
                                   .count = kCount,
                                   .gradient_rows = kRows,
                                   .gradient = gradient.view(),
                                   .threshold_gradient = dthreshold.view(),
                                   .accumulate = accumulate,
                                   .measured = measured_.view()});
      double sum = 2.0;
      for (int64_t i = 0; i < kLayers * kHeads; ++i) {
        const Penalty head(mean.At(i), threshold_.At(i), kMax);
        const double g = 2.0 * kStrength / kCount * head.delta * head.gate;
        EXPECT_NEAR(gradient.At(i), g, 1e-8);
        EXPECT_NEAR(dthreshold.At(i), (accumulate ? 3.0 : 0.0) - kMax * g * kRows, 1e-6);
        EXPECT_EQ(measured_.At(1 + i), 2.0 + head.gate);
        sum += head.delta * head.delta * head.gate;
      }
      EXPECT_NEAR(measured_.At(0), sum, 1e-12);
    }
  }
}

TEST_F(EntropyPenaltyTest, OfRows) {
  measured_.Fill(2.0);
  RowPenalty(*CpuContext(2), {.entropy = entropy_.view(),
                              .threshold = threshold_.view(),
                              .max_entropy = max_.view(),
                              .margin = kMargin,
                              .measured = measured_.view()});
  double sum = 2.0;
  for (int64_t i = 0; i < kLayers * kHeads; ++i) {
    double open = 0.0;
    for (int64_t b = 0; b < kBatch; ++b) {
      for (int64_t t = 0; t < kPositions; ++t) {
        const Penalty row(Entropy(i / kHeads, b, i % kHeads, t), threshold_.At(i), max_.At(t));
        sum += row.delta * row.delta * row.gate;
        open += row.gate;
      }
    }
    EXPECT_EQ(measured_.At(1 + i), 2.0 + open);
  }
  EXPECT_NEAR(measured_.At(0), sum, 1e-12);
}

TEST_F(EntropyPenaltyTest, GradientsOfRows) {
  constexpr int64_t kLayer = 1, kCount = 9;
  TestTensor gradient = TestTensor::F32({kBatch, kHeads, kPositions});
  TestTensor dthreshold = TestTensor::F32({kHeads});
  const TensorView layer = entropy_.view()
                               .Rows(kLayer * kBatch * kHeads, kBatch * kHeads)
                               .Reshape({kBatch, kHeads, kPositions});
  for (const bool accumulate : {false, true}) {
    gradient.Fill(NAN);
    dthreshold.Fill(3.0);
    RowPenaltyGradient(*CpuContext(2),
                       {.entropy = layer,
                        .threshold = {threshold_.view().row<float>(kLayer), DType::kF32, {kHeads}},
                        .max_entropy = max_.view(),
                        .margin = kMargin,
                        .strength = strength_.view(),
                        .count = kCount,
                        .gradient = gradient.view(),
                        .threshold_gradient = dthreshold.view(),
                        .accumulate = accumulate});
    for (int64_t h = 0; h < kHeads; ++h) {
      double sum = accumulate ? 3.0 : 0.0;
      for (int64_t b = 0; b < kBatch; ++b) {
        for (int64_t t = 0; t < kPositions; ++t) {
          const Penalty row(Entropy(kLayer, b, h, t), threshold_.At(kLayer * kHeads + h),
                            max_.At(t));
          const double g = 2.0 * kStrength / kCount * row.delta * row.gate;
          EXPECT_NEAR(gradient.At((b * kHeads + h) * kPositions + t), g, 1e-8);
          sum -= max_.At(t) * g;
        }
      }
      EXPECT_NEAR(dthreshold.At(h), sum, 1e-6);
    }
  }
}

}  // namespace
}  // namespace entrain
