#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "runtime/kernels/attention.h"
#include "tests/support/attention_checks.h"
#include "tests/support/attention_operands.h"

namespace entrain {
namespace {

TEST(Attention, HugeScoresStayFiniteAndEntropiesNonNegative) {
  auto context = AttentionContext(2);
  for (const float scale : {1e2F, 1e3F, 1e6F}) {
    const AttentionOperands operands(
        AttentionCase{.length = 200, .width = 16, .query_scale = scale});
    operands.Forward(*context);
    operands.Backward(*context);
    ExpectFiniteAndEntropiesNonNegative(operands);
  }
}

// What scales a masked score and its gradient is large then.
TEST(Attention, LeastTemperaturesStayFinite) {
  auto context = AttentionContext(2);
  for (const TemperatureKind kind : {TemperatureKind::kPerHead, TemperatureKind::kPerQuery}) {
    for (const int64_t width : {1, 16}) {
      AttentionOperands operands(
          AttentionCase{.length = 70, .width = width, .temperature = kind, .query_scale = 10.0F});
      operands.temperature.Fill(1e-6F);
      operands.entropy_gradient.FillNormal(3, 10.0F);
      operands.Forward(*context);
      operands.Backward(*context);
      ExpectFiniteAndEntropiesNonNegative(operands);
    }
  }
}

TEST(Attention, EqualScoresGiveLogarithmOfPosition) {
  auto context = AttentionContext(1);
  const AttentionOperands operands(AttentionCase{.length = 300, .width = 8, .query_scale = 0.0F});
  operands.Forward(*context);
  for (int64_t i = 0; i < 300; ++i) {
    EXPECT_NEAR(operands.entropy.At(i), std::log(static_cast<double>(i + 1)), 1e-6);
  }
}

// The first query's softmax is over one score: whatever the scores, no entropy and no gradient, without rounding.
TEST(Attention, FirstRowIsExact) {
  auto context = AttentionContext(1);
  for (const float scale : {0.01F, 1.0F, 300.0F}) {
    for (const int64_t length : {1, 70}) {
      const AttentionOperands operands(AttentionCase{.batch = 2,
                                                     .length = length,
                                                     .heads = 3,
                                                     .width = 24,
                                                     .temperature = TemperatureKind::kPerQuery,
                                                     .query_scale = scale});
      operands.Forward(*context);
      operands.Backward(*context);
      for (int64_t pair = 0; pair < 6; ++pair) {
        const int64_t b = pair / 3;
        const int64_t h = pair % 3;
        EXPECT_EQ(operands.entropy.At(pair * length), 0.0);
        EXPECT_EQ(operands.dtemperature.At(h * (length + kSpareColumns)), 0.0);
        for (int64_t d = 0; d < 24; ++d) {
          EXPECT_EQ(operands.out.At(operands.OutIndex(b, 0, h, d)),
                    operands.qkv.At(operands.QkvIndex(b, 0, 2, h, d)));
          EXPECT_EQ(operands.dqkv.At(operands.QkvIndex(b, 0, 0, h, d)), 0.0);
        }
      }
    }
  }
}

TEST(Attention, SameBitsForAnyNumberOfThreads) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const TemperatureKind kind : {TemperatureKind::kPerHead, TemperatureKind::kPerQuery}) {
      const AttentionCase c{2, 150, 3, 20, kind, true, dtype};
      const AttentionOperands one(c);
      auto single = AttentionContext(1);
      one.Forward(*single);
      one.Backward(*single);
      for (const int threads : {2, 3, 7}) {
        auto context = AttentionContext(threads);
        const AttentionOperands many(c);
        many.Forward(*context);
        many.Backward(*context);
        ExpectSameBits(many, one);
      }
    }
  }
}

// Scratch is kept between calls and shared by shapes: what an earlier call left there must not show.
TEST(Attention, SameBitsWhateverRanBefore) {
  const AttentionCase c{.batch = 1, .length = 77, .heads = 2, .width = 20};
  auto fresh = AttentionContext(2);
  const AttentionOperands first(c);
  first.Forward(*fresh);
  first.Backward(*fresh);

  auto used = AttentionContext(2);
  AttentionOperands poison(AttentionCase{.batch = 2, .length = 130, .heads = 2, .width = 64});
  poison.qkv.Fill(std::numeric_limits<float>::quiet_NaN());
  poison.Forward(*used);
  poison.Backward(*used);
  const AttentionOperands second(c);
  second.Forward(*used);
  second.Backward(*used);
  ExpectSameBits(second, first);
}

TEST(Attention, ZeroEntropyGradientEqualsNone) {
  auto context = AttentionContext(2);
  const AttentionCase c{.batch = 2, .length = 90, .heads = 2, .width = 16};
  AttentionOperands zero(c);
  zero.entropy_gradient.Fill(0.0F);
  AttentionCase plain = c;
  plain.entropy_gradient = false;
  const AttentionOperands none(plain);
  for (const AttentionOperands* operands : {&std::as_const(zero), &none}) {
    operands->Forward(*context);
    operands->Backward(*context);
  }
  EXPECT_TRUE(zero.dqkv.SameBits(none.dqkv));
}

TEST(Attention, EntropyGradientOfAHeadEqualsItsRows) {
  auto context = AttentionContext(2);
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    AttentionCase c{2, 70, 3, 16, TemperatureKind::kPerHead, true, dtype};
    AttentionOperands rows(c);
    c.gradient_per_head = true;
    const AttentionOperands heads(c);
    for (int64_t i = 0; i < rows.entropy_gradient.size(); ++i) {
      rows.entropy_gradient.Set(i, heads.entropy_gradient.At(i / c.length % c.heads));
    }
    for (const AttentionOperands* operands : {&std::as_const(rows), &heads}) {
      operands->Forward(*context);
      operands->Backward(*context);
    }
    EXPECT_TRUE(rows.dqkv.SameBits(heads.dqkv));
    EXPECT_TRUE(rows.dtemperature.SameBits(heads.dtemperature));
  }
}

TEST(Attention, TemperatureOneEqualsNone) {
  auto context = AttentionContext(2);
  AttentionCase c{.batch = 1, .length = 40, .heads = 2, .width = 16};
  const AttentionOperands none(c);
  none.Forward(*context);
  for (const TemperatureKind kind : {TemperatureKind::kPerHead, TemperatureKind::kPerQuery}) {
    c.temperature = kind;
    AttentionOperands one(c);
    one.temperature.Fill(1.0F);
    one.Forward(*context);
    EXPECT_TRUE(one.out.SameBits(none.out));
    EXPECT_TRUE(one.entropy.SameBits(none.entropy));
  }
}

TEST(Attention, TemperatureGradientAccumulates) {
  auto context = AttentionContext(2);
  for (const TemperatureKind kind : {TemperatureKind::kPerHead, TemperatureKind::kPerQuery}) {
    AttentionOperands operands(
        AttentionCase{.batch = 2, .length = 33, .heads = 2, .width = 8, .temperature = kind});
    operands.Forward(*context);
    operands.Backward(*context);
    const std::vector<double> once = operands.dtemperature.Values();
    operands.dtemperature.Fill(0.5F);
    operands.Backward(*context, /*accumulate=*/true);
    ExpectAddedToHalf(operands, once);
  }
}

TEST(Attention, NanInAKeyReachesTheQueriesThatSeeIt) {
  auto context = AttentionContext(2);
  AttentionOperands operands(AttentionCase{.length = 150, .width = 20});
  constexpr int64_t kPosition = 71;
  operands.qkv.Set(operands.QkvIndex(0, kPosition, 1, 0, 3),
                   std::numeric_limits<float>::quiet_NaN());
  operands.Forward(*context);
  operands.Backward(*context);
  ExpectNanFrom(operands, kPosition);
}

TEST(Attention, NanInAQueryAndInAValue) {
  auto context = AttentionContext(1);
  AttentionOperands operands(AttentionCase{.length = 20, .width = 8});
  operands.qkv.Set(operands.QkvIndex(0, 10, 0, 0, 0), std::numeric_limits<float>::quiet_NaN());
  operands.qkv.Set(operands.QkvIndex(0, 15, 2, 0, 5), std::numeric_limits<float>::quiet_NaN());
  operands.Forward(*context);
  EXPECT_TRUE(std::isnan(operands.entropy.At(10)));
  EXPECT_FALSE(std::isnan(operands.entropy.At(9)));
  EXPECT_FALSE(std::isnan(operands.entropy.At(15)));
  EXPECT_TRUE(std::isnan(operands.out.At(operands.OutIndex(0, 15, 0, 5))));
  EXPECT_FALSE(std::isnan(operands.out.At(operands.OutIndex(0, 15, 0, 4))));
}

TEST(AttentionDeathTest, OperandsThatDoNotFitAreRefused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto context = AttentionContext(1);
  const AttentionOperands operands(AttentionCase{.batch = 2, .length = 6, .heads = 2, .width = 8});
  const AttentionForwardArgs good = {.qkv = operands.qkv.view(),
                                     .temperature = {},
                                     .out = operands.out.view(),
                                     .lse = operands.lse.view(),
                                     .lse_low = {},
                                     .entropy = operands.entropy.view()};
  AttentionForwardArgs args = good;
  args.qkv = good.out;
  EXPECT_DEATH(AttentionForward(*context, args), "qkv is \\[B, T, 3, H, D\\]");
  args = good;
  args.lse = good.out;
  EXPECT_DEATH(AttentionForward(*context, args), "attention lse");
  args = good;
  args.temperature = good.lse;  // three dims
  EXPECT_DEATH(AttentionForward(*context, args), "attention temperature");
  const OwnedTensor short_temperature(DType::kF32, {2, 5});
  args.temperature = short_temperature.view();
  EXPECT_DEATH(AttentionForward(*context, args), "5 vs 6 attention temperature");

  AttentionBackwardArgs backward = {.qkv = good.qkv,
                                    .temperature = {},
                                    .out = good.out,
                                    .dout = operands.dout.view(),
                                    .lse = good.lse,
                                    .lse_low = {},
                                    .entropy = good.entropy,
                                    .entropy_gradient = {},
                                    .dqkv = good.qkv,
                                    .dtemperature = {}};
  EXPECT_DEATH(AttentionBackward(*context, backward), "dqkv may not alias qkv");
  backward.dqkv = operands.dqkv.view();
  backward.dtemperature = operands.dtemperature.view();
  EXPECT_DEATH(AttentionBackward(*context, backward), "attention dtemperature");
  backward.dtemperature = {};
  const OwnedTensor long_gradient(DType::kF32, {3});
  backward.entropy_gradient = long_gradient.view();
  EXPECT_DEATH(AttentionBackward(*context, backward), "attention entropy_gradient");
  backward.entropy_gradient = {};
  const OwnedTensor bf16_dout(DType::kBf16, {2, 6, 2, 8});
  backward.dout = bf16_dout.view();
  EXPECT_DEATH(AttentionBackward(*context, backward), "attention dout must be f32");
}

}  // namespace
}  // namespace entrain
