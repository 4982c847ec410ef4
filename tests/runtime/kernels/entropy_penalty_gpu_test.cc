#include <gtest/gtest.h>

#include "runtime/kernels/entropy_penalty.h"
#include "tests/support/gpu_twin.h"

namespace entrain {
namespace {

struct Case {
  int64_t batch;
  int64_t heads;
  int64_t positions;
};

// More rows, sequences and heads than a block has threads or a launch takes heads.
constexpr Case kCases[] = {{3, 2, 37}, {1, 12, 300}, {2, 130, 5}, {150, 3, 4}, {1, 1, 1}};

Doubles MaxEntropy(int64_t positions) {
  Doubles max;
  for (int64_t i = 0; i < positions; ++i) max.push_back(std::log(static_cast<double>(i + 1)));
  return max;
}

// Entropies of [0.4, 1] of the largest.
GpuTwin Entropy(const Case& c) {
  GpuTwin entropy(DType::kF32, {c.batch, c.heads, c.positions});
  const Doubles max = MaxEntropy(c.positions);
  entropy.Set([&](int64_t i) {
    const double part = 0.7 + 0.3 * std::tanh(NormalAt(7, 1, static_cast<uint64_t>(i)));
    return part * max[static_cast<size_t>(i % c.positions)];
  });
  return entropy;
}

using Sums = std::vector<HeadPenalty>;

void ExpectNear(const Sums& gpu, const Sums& cpu) {
  for (size_t h = 0; h < cpu.size(); ++h) {
    // fp64 sums in another order.
    EXPECT_NEAR(gpu[h].penalty, cpu[h].penalty, 1e-12 * std::abs(cpu[h].penalty));
    EXPECT_EQ(gpu[h].open_rows, cpu[h].open_rows);
    EXPECT_NEAR(gpu[h].threshold_gradient, cpu[h].threshold_gradient,
                1e-12 * std::max(1.0, std::abs(cpu[h].threshold_gradient)));
  }
}

TEST(EntropyPenaltyGpuTest, RowsAgreeWithTheCpu) {
  ENTRAIN_REQUIRE_GPU();
  for (const Case& c : kCases) {
    for (const bool with_gradient : {true, false}) {
      SCOPED_TRACE(testing::Message() << c.batch << " x " << c.heads << " x " << c.positions);
      GpuTwin entropy = Entropy(c), threshold(DType::kF32, {c.heads});
      GpuTwin gradient(DType::kF32, {c.batch, c.heads, c.positions});
      threshold.Normal(2, 0.1, 0.7);
      gradient.Fill(NAN);
      const Doubles max = MaxEntropy(c.positions);
      const auto heads = static_cast<size_t>(c.heads);
      std::vector<Sums> runs;
      const auto penalize = [&](Context& context, auto view) {
        // Overwritten.
        Sums sums(heads, HeadPenalty{.penalty = 7.0, .open_rows = 7.0, .threshold_gradient = 7.0});
        RowPenalty(context,
                   {.entropy = view(entropy),
                    .threshold = view(threshold),
                    .gradient = with_gradient ? view(gradient) : TensorView(),
                    .max_entropy = max.data(),
                    .margin = 0.1,
                    .scale = 0.03},
                   sums.data());
        runs.push_back(sums);
      };
      OnBoth(penalize);
      ExpectNear(runs[0], runs[1]);
      if (with_gradient) {
        EXPECT_LT(gradient.Error(), 1e-7);
      }
      OnGpu(penalize);
      for (size_t h = 0; h < heads; ++h) {
        EXPECT_EQ(runs[2][h].penalty, runs[0][h].penalty);
        EXPECT_EQ(runs[2][h].threshold_gradient, runs[0][h].threshold_gradient);
      }
    }
  }
}

// The largest entropies are kept on the device; other ones must replace them.
TEST(EntropyPenaltyGpuTest, MaxEntropyMayChange) {
  ENTRAIN_REQUIRE_GPU();
  const Case& c = kCases[0];
  GpuTwin entropy = Entropy(c), threshold(DType::kF32, {c.heads});
  threshold.Fill(0.5);
  for (const double factor : {1.0, 2.0, 1.0}) {
    Doubles max = MaxEntropy(c.positions);
    for (double& value : max) value *= factor;
    std::vector<Sums> runs;
    OnBoth([&](Context& context, auto view) {
      Sums sums(static_cast<size_t>(c.heads));
      RowPenalty(context,
                 {.entropy = view(entropy),
                  .threshold = view(threshold),
                  .max_entropy = max.data(),
                  .margin = 0.05,
                  .scale = 1.0},
                 sums.data());
      runs.push_back(sums);
    });
    ExpectNear(runs[0], runs[1]);
  }
}

TEST(EntropyPenaltyGpuTest, NoRows) {
  ENTRAIN_REQUIRE_GPU();
  GpuTensor entropy(DType::kF32, {0, 2, 4}), threshold(DType::kF32, {2});
  const Doubles max = MaxEntropy(4);
  Sums sums(2, HeadPenalty{.penalty = 7.0});
  RowPenalty(Gpu(), {.entropy = entropy, .threshold = threshold, .max_entropy = max.data()},
             sums.data());
  EXPECT_EQ(sums[1].penalty, 0.0);
}

}  // namespace
}  // namespace entrain
