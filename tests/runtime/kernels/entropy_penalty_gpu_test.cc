#include <gtest/gtest.h>

#include "runtime/kernels/entropy_penalty.h"
#include "tests/support/penalty_operands.h"
#include "tests/support/twin_ops.h"

namespace entrain {
namespace {

struct Case {
  int64_t layers, batch, heads, positions;
};

// More rows, sequences and heads than a block has threads or a launch takes heads.
constexpr Case kCases[] = {
    {2, 3, 2, 37}, {1, 1, 12, 300}, {3, 2, 130, 5}, {1, 150, 3, 4}, {1, 1, 1, 1}};
constexpr int64_t kPadding = 3;  // between the thresholds of two layers

// fp64 sums in another order.
constexpr double kSums = 1e-12;
// Rounded once to fp32.
constexpr double kRounded = 1e-7;

GpuTwin Entropies(const Case& c) {
  GpuTwin entropy(DType::kF32, {c.layers, c.batch, c.heads, c.positions});
  entropy.Set([&](int64_t i) { return EntropyAt(i, c.positions); });
  return entropy;
}

GpuTwin Maxima(const Case& c) {
  GpuTwin max(DType::kF64, {c.positions});
  max.Set([](int64_t t) { return MaxEntropyAt(t); });
  return max;
}

GpuTwin Thresholds(const Case& c) {
  GpuTwin threshold(DType::kF32, {c.layers, c.heads}, c.heads + kPadding);
  threshold.Normal(2, 0.1, 0.7);
  return threshold;
}

TEST(EntropyPenaltyGpuTest, OfHeads) {
  ENTRAIN_REQUIRE_GPU();
  for (const Case& c : kCases) {
    for (const bool of_sums : {true, false}) {
      for (const bool accumulate : {true, false}) {
        GpuTwin sums = NormalTwin(DType::kF64, {c.layers, c.heads, 2}, 3, 100.0);
        GpuTwin mean = NormalTwin(DType::kF32, {c.layers, c.heads}, 4);
        GpuTwin threshold = Thresholds(c), strength = FilledTwin(DType::kF64, {1}, 0.3);
        GpuTwin gradient = NaNTwin(DType::kF32, {c.layers, c.heads});
        GpuTwin dthreshold(DType::kF32, {c.layers, c.heads}, c.heads + kPadding);
        dthreshold.Normal(5);
        GpuTwin measured = FilledTwin(DType::kF64, {1 + c.layers * c.heads}, 2.0);
        ExpectTwins(
            [&](Context& context) {
              HeadPenalty(context, {.sums = of_sums ? On(context, sums) : TensorView(),
                                    .rows = 111,
                                    .mean = of_sums ? TensorView() : On(context, mean),
                                    .threshold = On(context, threshold),
                                    .max_entropy = 1.4,
                                    .margin = 0.2,
                                    .strength = On(context, strength),
                                    .count = 17,
                                    .gradient_rows = 5,
                                    .gradient = On(context, gradient),
                                    .threshold_gradient = On(context, dthreshold),
                                    .accumulate = accumulate,
                                    .measured = On(context, measured)});
            },
            {{gradient, kRounded}, {dthreshold, kRounded}, {measured, kSums}});
      }
    }
  }
}

TEST(EntropyPenaltyGpuTest, OfRows) {
  ENTRAIN_REQUIRE_GPU();
  for (const Case& c : kCases) {
    GpuTwin entropy = Entropies(c), max = Maxima(c), threshold = Thresholds(c);
    GpuTwin measured = FilledTwin(DType::kF64, {1 + c.layers * c.heads}, 2.0);
    ExpectTwins(
        [&](Context& context) {
          RowPenalty(context, {.entropy = On(context, entropy),
                               .threshold = On(context, threshold),
                               .max_entropy = On(context, max),
                               .margin = 0.1,
                               .measured = On(context, measured)});
        },
        {{measured, kSums}});
  }
}

TEST(EntropyPenaltyGpuTest, GradientsOfRows) {
  ENTRAIN_REQUIRE_GPU();
  for (const Case& c : kCases) {
    for (const bool accumulate : {true, false}) {
      GpuTwin entropy = Entropies({1, c.batch, c.heads, c.positions}), max = Maxima(c);
      GpuTwin threshold = NormalTwin(DType::kF32, {c.heads}, 2, 0.5);
      GpuTwin strength = FilledTwin(DType::kF64, {1}, 0.3);
      GpuTwin gradient = NaNTwin(DType::kF32, {c.batch, c.heads, c.positions});
      GpuTwin dthreshold = NormalTwin(DType::kF32, {c.heads}, 5);
      ExpectTwins(
          [&](Context& context) {
            RowPenaltyGradient(
                context, {.entropy = On(context, entropy).Reshape({c.batch, c.heads, c.positions}),
                          .threshold = On(context, threshold),
                          .max_entropy = On(context, max),
                          .margin = 0.1,
                          .strength = On(context, strength),
                          .count = 17,
                          .gradient = On(context, gradient),
                          .threshold_gradient = On(context, dthreshold),
                          .accumulate = accumulate});
          },
          {{gradient, kRounded}, {dthreshold, kRounded}});
    }
  }
}

TEST(EntropyPenaltyGpuTest, NoRows) {
  ENTRAIN_REQUIRE_GPU();
  const TensorView none(nullptr, DType::kF32, {0, 2, 4});
  GpuTensor threshold(DType::kF32, {2}), max(DType::kF64, {4}), strength(DType::kF64, {1});
  GpuTensor dthreshold(DType::kF32, {2});
  dthreshold.Fill(7.0F);
  for (const bool accumulate : {true, false}) {
    RowPenaltyGradient(Gpu(), {.entropy = none,
                               .threshold = threshold,
                               .max_entropy = max,
                               .strength = strength,
                               .gradient = none,
                               .threshold_gradient = dthreshold,
                               .accumulate = accumulate});
    EXPECT_EQ(dthreshold.Get()[1], accumulate ? 7.0F : 0.0F);
  }
}

}  // namespace
}  // namespace entrain
