#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/support/attention_checks.h"
#include "tests/support/attention_on_gpu.h"

namespace entrain {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

TEST(AttentionGpu, SameBitsInEveryRunWhateverRanBefore) {
  ENTRAIN_REQUIRE_GPU();
  std::vector<AttentionCase> cases = CasesOfPaths(
      {.batch = 2, .length = 100, .heads = 1, .temperature = TemperatureKind::kPerQuery});
  cases.push_back(cases[0]);
  cases.back().length = 260;  // beyond what one block holds
  cases.push_back(cases.back());
  cases.back().temperature = TemperatureKind::kPerHead;
  cases.back().gradient_per_head = true;
  for (const AttentionCase& c : cases) {
    const AttentionOperands first(c);
    RunOnGpu(first);
    AttentionOperands poison(AttentionCase{.batch = 1, .length = 130, .heads = 2, .width = 32});
    poison.qkv.Fill(kNaN);
    RunOnGpu(poison);
    const AttentionOperands second(c);
    RunOnGpu(second);
    ExpectSameBits(first, second);
  }
}

// The first query's softmax is over one score: no entropy and no gradient, without rounding.
TEST(AttentionGpu, FirstRowIsExact) {
  ENTRAIN_REQUIRE_GPU();
  for (const float scale : {0.01F, 300.0F}) {
    for (const AttentionCase& c : CasesOfPaths({.batch = 2,
                                  .length = 70,
                                  .heads = 2,
                                  .temperature = TemperatureKind::kPerQuery,
                                  .query_scale = scale})) {
      const AttentionOperands operands(c);
      RunOnGpu(operands);
      for (int64_t pair = 0; pair < 4; ++pair) {
        const int64_t b = pair / 2;
        const int64_t h = pair % 2;
        EXPECT_EQ(operands.entropy.At(pair * c.length), 0.0);
        EXPECT_EQ(operands.dtemperature.At(h * (c.length + kSpareColumns)), 0.0);
        for (int64_t d = 0; d < c.width; ++d) {
          EXPECT_EQ(operands.out.At(operands.OutIndex(b, 0, h, d)),
                    operands.qkv.At(operands.QkvIndex(b, 0, 2, h, d)));
          EXPECT_EQ(operands.dqkv.At(operands.QkvIndex(b, 0, 0, h, d)), 0.0);
        }
      }
    }
  }
}

// A loss of the first row alone: nothing for keys and queries, and its dout for its value.
TEST(AttentionGpu, FirstRowAloneHasNoGradientButItsValues) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t length : {70, 300}) {
    for (const TemperatureKind kind : {TemperatureKind::kPerHead, TemperatureKind::kPerQuery}) {
      for (const AttentionCase& c : CasesOfPaths({.length = length,
                                    .temperature = kind,
                                    .entropy_gradient = false,
                                    .query_scale = 30.0F})) {
        AttentionOperands operands(c);
        for (int64_t i = c.width; i < operands.dout.size(); ++i) operands.dout.Set(i, 0.0F);
        RunOnGpu(operands);
        for (int64_t d = 0; d < c.width; ++d) {
          EXPECT_EQ(operands.dqkv.At(operands.QkvIndex(0, 0, 0, 0, d)), 0.0);
          EXPECT_EQ(operands.dqkv.At(operands.QkvIndex(0, 0, 1, 0, d)), 0.0);
          EXPECT_EQ(operands.dqkv.At(operands.QkvIndex(0, 0, 2, 0, d)), operands.dout.At(d));
        }
      }
    }
  }
}

TEST(AttentionGpu, HugeScoresStayFiniteAndEntropiesNonNegative) {
  ENTRAIN_REQUIRE_GPU();
  for (const float scale : {1e2F, 1e6F}) {
    for (const AttentionCase& c : CasesOfPaths({.length = 150, .query_scale = scale})) {
      const AttentionOperands operands(c);
      RunOnGpu(operands);
      ExpectFiniteAndEntropiesNonNegative(operands);
    }
  }
}

// What scales a masked score and its gradient is large then.
TEST(AttentionGpu, LeastTemperaturesStayFinite) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t length : {70, 300}) {
    for (const TemperatureKind kind : {TemperatureKind::kPerHead, TemperatureKind::kPerQuery}) {
      for (const AttentionCase& c :
           CasesOfPaths({.length = length, .temperature = kind, .query_scale = 10.0F})) {
        AttentionOperands operands(c);
        operands.temperature.Fill(1e-6F);
        operands.entropy_gradient.FillNormal(3, 10.0F);
        RunOnGpu(operands);
        ExpectFiniteAndEntropiesNonNegative(operands);
      }
    }
  }
}

TEST(AttentionGpu, ZeroEntropyGradientEqualsNone) {
  ENTRAIN_REQUIRE_GPU();
  for (const AttentionCase& c : CasesOfPaths({.length = 90, .heads = 2})) {
    AttentionOperands zero(c);
    zero.entropy_gradient.Fill(0.0F);
    AttentionCase plain = c;
    plain.entropy_gradient = false;
    const AttentionOperands none(plain);
    RunOnGpu(zero);
    RunOnGpu(none);
    EXPECT_TRUE(zero.dqkv.SameBits(none.dqkv));
  }
}

TEST(AttentionGpu, EntropyGradientOfAHeadEqualsItsRows) {
  ENTRAIN_REQUIRE_GPU();
  std::vector<AttentionCase> cases = CasesOfPaths(
      {.batch = 2, .length = 70, .heads = 2, .temperature = TemperatureKind::kPerHead});
  cases.push_back(cases[0]);
  cases.back().length = 300;  // beyond what one block holds
  for (AttentionCase c : cases) {
    AttentionOperands rows(c);
    c.gradient_per_head = true;
    const AttentionOperands heads(c);
    for (int64_t i = 0; i < rows.entropy_gradient.size(); ++i) {
      rows.entropy_gradient.Set(
          i, static_cast<float>(heads.entropy_gradient.At(i / c.length % c.heads)));
    }
    RunOnGpu(rows);
    RunOnGpu(heads);
    ExpectSameBits(rows, heads);
  }
}

TEST(AttentionGpu, TemperatureGradientAccumulates) {
  ENTRAIN_REQUIRE_GPU();
  for (const TemperatureKind kind : {TemperatureKind::kPerHead, TemperatureKind::kPerQuery}) {
    for (const AttentionCase& c :
         CasesOfPaths({.batch = 2, .length = 33, .heads = 2, .temperature = kind})) {
      AttentionOperands operands(c);
      RunOnGpu(operands);
      const std::vector<double> once = operands.dtemperature.Values();
      operands.dtemperature.Fill(0.5F);
      BackwardOnGpu(operands, /*accumulate=*/true);
      ExpectAddedToHalf(operands, once);
    }
  }
}

TEST(AttentionGpu, NanReachesTheQueriesThatSeeIt) {
  ENTRAIN_REQUIRE_GPU();
  constexpr int64_t kPosition = 71;
  for (const AttentionCase& c : CasesOfPaths({.length = 150})) {
    AttentionOperands operands(c);
    operands.qkv.Set(operands.QkvIndex(0, kPosition, 1, 0, 3), kNaN);
    RunOnGpu(operands);
    ExpectNanFrom(operands, kPosition);
  }
}

TEST(AttentionGpu, NanInAQueryAndInAValue) {
  ENTRAIN_REQUIRE_GPU();
  for (const AttentionCase& c : CasesOfPaths({.length = 20})) {
    AttentionOperands operands(c);
    operands.qkv.Set(operands.QkvIndex(0, 10, 0, 0, 0), kNaN);
    operands.qkv.Set(operands.QkvIndex(0, 15, 2, 0, 5), kNaN);
    ForwardOnGpu(operands);
    EXPECT_TRUE(std::isnan(operands.entropy.At(10)));
    EXPECT_FALSE(std::isnan(operands.entropy.At(9)));
    EXPECT_FALSE(std::isnan(operands.entropy.At(15)));
    EXPECT_TRUE(std::isnan(operands.out.At(operands.OutIndex(0, 15, 0, 5))));
    EXPECT_FALSE(std::isnan(operands.out.At(operands.OutIndex(0, 15, 0, 4))));
  }
}

// Operands that the tensor cores' copies cannot read take the plain path.
TEST(AttentionGpu, MisalignedOperandsGiveTheSame) {
  ENTRAIN_REQUIRE_GPU();
  const AttentionCase c{1, 50, 2, 64, TemperatureKind::kPerHead, true, DType::kBf16};
  const AttentionOperands aligned(c);
  RunOnGpu(aligned);
  const AttentionOperands shifted(c);
  ForwardOnGpu(shifted, /*shift=*/2);
  BackwardOnGpu(shifted, /*accumulate=*/false, /*shift=*/2);
  ErrorSum out, dqkv;
  out.Add(shifted.out.Values(), aligned.out.Values());
  dqkv.Add(shifted.dqkv.Values(), aligned.dqkv.Values());
  EXPECT_LE(out.Value(), 4e-3);
  EXPECT_LE(dqkv.Value(), 1e-2);
  EXPECT_LE(MaxDifference(shifted.entropy.Values(), aligned.entropy.Values()), 2e-6);
}

}  // namespace
}  // namespace entrain
