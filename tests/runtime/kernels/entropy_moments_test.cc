#include "runtime/kernels/entropy_moments.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

constexpr int64_t kLayers = 2, kBatch = 3, kHeads = 4, kPositions = 37;

struct Moments {
  TestTensor sums{DType::kF64, {kLayers, kHeads, 2}};
  TestTensor extremes{DType::kF32, {kLayers, kHeads, 2}};
  HeadMoments views() { return {sums.view(), extremes.view()}; }
};

TestTensor Entropy(uint64_t stream) {
  return TestTensor::Normal(DType::kF32, {kLayers, kBatch, kHeads, kPositions}, stream);
}

TEST(EntropyMomentsTest, OverBatchAndPositions) {
  TestTensor entropy = Entropy(1);
  Moments found;
  found.sums.Fill(NAN);
  found.extremes.Fill(NAN);
  EntropyMoments(*CpuContext(2), entropy.view(), found.views());
  for (int64_t h = 0; h < kLayers * kHeads; ++h) {
    double sum = 0.0, squares = 0.0, min = 99.0, max = -99.0;
    for (int64_t b = 0; b < kBatch; ++b) {
      for (int64_t t = 0; t < kPositions; ++t) {
        const double value =
            entropy.At(((h / kHeads * kBatch + b) * kHeads + h % kHeads) * kPositions + t);
        sum += value;
        squares += value * value;
        min = std::min(min, value);
        max = std::max(max, value);
      }
    }
    EXPECT_NEAR(found.sums.At(2 * h), sum, 1e-12);
    EXPECT_NEAR(found.sums.At(2 * h + 1), squares, 1e-12);
    EXPECT_EQ(found.extremes.At(2 * h), -min);
    EXPECT_EQ(found.extremes.At(2 * h + 1), max);
  }
}

TEST(EntropyMomentsTest, JoinIsASumAndAMaximum) {
  const auto context = CpuContext(2);
  TestTensor a = Entropy(1), b = Entropy(2);
  Moments total, added, kept;
  EntropyMoments(*context, a.view(), total.views());
  EntropyMoments(*context, a.view(), kept.views());
  EntropyMoments(*context, b.view(), added.views());
  JoinMoments(*context, added.views(), total.views());
  for (int64_t i = 0; i < total.sums.size(); ++i) {
    EXPECT_EQ(total.sums.At(i), kept.sums.At(i) + added.sums.At(i));
    EXPECT_EQ(total.extremes.At(i), std::max(kept.extremes.At(i), added.extremes.At(i)));
  }
}

TEST(KeepMeansTest, UnlessTheStepIsLeftOut) {
  const auto context = CpuContext(1);
  TestTensor entropy = Entropy(1);
  Moments moments;
  EntropyMoments(*context, entropy.view(), moments.views());
  TestTensor mean = TestTensor::F32({kLayers, kHeads}), scale = TestTensor::F32({1});
  mean.Fill(7.0);
  const auto keep = [&] {
    KeepMeans(*context, {.sums = moments.sums.view(),
                         .rows = kBatch * kPositions,
                         .unless_nan = scale.view(),
                         .mean = mean.view()});
  };
  scale.Fill(NAN);
  keep();
  EXPECT_EQ(mean.At(3), 7.0);
  scale.Fill(1.0);
  keep();
  EXPECT_EQ(mean.At(3), static_cast<float>(moments.sums.At(6) / (kBatch * kPositions)));
}

}  // namespace
}  // namespace entrain
