// Attention of short sequences in bf16, which a block of the GPU may hold whole.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/support/attention_checks.h"
#include "tests/support/attention_on_gpu.h"

namespace entrain {
namespace {

constexpr int64_t kLengths[] = {1, 16, 17, 100, 127, 128, 129, 200, 255, 256};
constexpr TemperatureKind kKinds[] = {TemperatureKind::kNone, TemperatureKind::kPerHead,
                                      TemperatureKind::kPerQuery};

class ShortAttention : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(ShortAttention, EqualsReference) {
  ENTRAIN_REQUIRE_GPU();
  const AttentionOperands operands(GetParam());
  RunOnGpu(operands);
  ExpectReference(operands, 0.0);
}

std::vector<AttentionCase> Cases() {
  std::vector<AttentionCase> cases;
  for (const int64_t length : kLengths) {
    AttentionCase c{.length = length, .width = 64, .dtype = DType::kBf16};
    for (const TemperatureKind kind : kKinds) {
      c.temperature = kind;
      c.entropy_gradient = false;
      cases.push_back(c);
      c.entropy_gradient = true;
      for (const bool per_head : {false, true}) {
        c.gradient_per_head = per_head;
        cases.push_back(c);
      }
    }
    c.batch = 2;
    c.heads = 3;
    c.width = 32;
    cases.push_back(c);
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, ShortAttention, ::testing::ValuesIn(Cases()), [](const auto& info) {
  return absl::StrCat(info.index, "_", info.param.Name());
});

TEST(ShortAttentionGpu, EntropiesKeepTheirDigits) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t length : {128, 256}) {
    for (const Sharpness& sharpness : kSharpnesses) ExpectExactEntropies(sharpness, length);
  }
}

TEST(ShortAttentionGpu, SameBitsInEveryRun) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t length : kLengths) {
    const AttentionCase c{2, length, 2, 64, TemperatureKind::kPerQuery, true, DType::kBf16};
    const AttentionOperands first(c), second(c);
    RunOnGpu(first);
    RunOnGpu(second);
    ExpectSameBits(first, second);
  }
}

// A pair does not depend on which others run beside it, nor on what they hold.
TEST(ShortAttentionGpu, PairsAreApart) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t length : {90, 190}) {
    const AttentionCase c{2, length, 2, 64, TemperatureKind::kNone, true, DType::kBf16};
    AttentionOperands clean(c), spoilt(c);
    for (int64_t i = 0; i < length; ++i) {
      spoilt.qkv.Set(spoilt.QkvIndex(0, i, 1, 1, 7), NAN);
    }
    RunOnGpu(clean);
    RunOnGpu(spoilt);
    EXPECT_TRUE(std::isnan(spoilt.entropy.At(length)));  // of pair 1
    for (const int64_t pair : {0, 2, 3}) {
      for (int64_t i = 0; i < length; ++i) {
        EXPECT_EQ(spoilt.entropy.At(pair * length + i), clean.entropy.At(pair * length + i));
      }
      for (int64_t part = 0; part < 3; ++part) {
        EXPECT_EQ(spoilt.Part(spoilt.dqkv, pair / 2, pair % 2, part),
                  clean.Part(clean.dqkv, pair / 2, pair % 2, part));
      }
    }
  }
}

TEST(ShortAttentionGpu, TemperatureGradientAccumulates) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t length : {33, 128, 200}) {
    for (const TemperatureKind kind : {TemperatureKind::kPerHead, TemperatureKind::kPerQuery}) {
      AttentionOperands operands(AttentionCase{2, length, 2, 64, kind, true, DType::kBf16});
      RunOnGpu(operands);
      const std::vector<double> once = operands.dtemperature.Values();
      operands.dtemperature.Fill(0.5F);
      BackwardOnGpu(operands, /*accumulate=*/true);
      for (int64_t i = 0; i < operands.dtemperature.size(); ++i) {
        EXPECT_NEAR(operands.dtemperature.At(i), 0.5 + once[i], 1e-6 * (1.0 + std::abs(once[i])));
      }
    }
  }
}

// Moments are summed without cancellation: sharp heads keep dtemperature's digits.
TEST(ShortAttentionGpu, SharpTemperatureGradients) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t length : {128, 256}) {
    AttentionCase c{1, length, 2, 64, TemperatureKind::kPerQuery, true, DType::kBf16};
    c.query_scale = 12.0F;
    const AttentionOperands operands(c);
    RunOnGpu(operands);
    ErrorSum error;
    const std::vector<double> got = operands.dtemperature.Values();
    for (int64_t h = 0; h < 2; ++h) {
      const auto begin = got.begin() + h * (length + kSpareColumns);
      error.Add({begin, begin + length}, operands.Reference(0, h).dtemperature);
    }
    EXPECT_LE(error.Value(), 1e-2) << length;
  }
}

}  // namespace
}  // namespace entrain
