#include <gtest/gtest.h>

#include "runtime/kernels/attention.h"
#include "tests/support/attention_checks.h"
#include "tests/support/attention_operands.h"

namespace entrain {
namespace {

class AttentionDecodeCases : public ::testing::TestWithParam<DecodeCase> {};

TEST_P(AttentionDecodeCases, EqualsLastRowOfReference) {
  const DecodeOperands operands(GetParam());
  auto context = AttentionContext(2);
  AttentionDecode(*context, {.q = operands.q.view(),
                             .keys = operands.keys.view(),
                             .values = operands.values.view(),
                             .temperature = operands.sequence.temperature_view(),
                             .out = operands.out.view(),
                             .entropy = operands.entropy.view(),
                             .length = GetParam().length});
  operands.ExpectLastRow();
}

INSTANTIATE_TEST_SUITE_P(
    All, AttentionDecodeCases,
    ::testing::Values(DecodeCase{1, 1, TemperatureKind::kNone, DType::kF32},
                      DecodeCase{1, 64, TemperatureKind::kPerQuery, DType::kBf16},
                      DecodeCase{2, 20, TemperatureKind::kPerHead, DType::kF32},
                      DecodeCase{16, 8, TemperatureKind::kPerQuery, DType::kF32},
                      DecodeCase{17, 64, TemperatureKind::kNone, DType::kBf16},
                      DecodeCase{100, 80, TemperatureKind::kPerQuery, DType::kF32},
                      DecodeCase{257, 64, TemperatureKind::kPerHead, DType::kBf16},
                      DecodeCase{500, 64, TemperatureKind::kNone, DType::kF32}));

TEST(AttentionDeathTest, DecodeLengthBeyondCacheIsRefused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto context = AttentionContext(1);
  const OwnedTensor q(DType::kF32, {2, 8});
  const OwnedTensor cache(DType::kF32, {4, 2, 8});
  const OwnedTensor entropy(DType::kF32, {2});
  AttentionDecodeArgs args = {.q = q.view(),
                              .keys = cache.view(),
                              .values = cache.view(),
                              .temperature = {},
                              .out = q.view(),
                              .entropy = entropy.view(),
                              .length = 5};
  EXPECT_DEATH(AttentionDecode(*context, args), "5 vs 4 length of the attention cache");
  args.length = 0;
  EXPECT_DEATH(AttentionDecode(*context, args), "0 vs 0 length of the attention cache");
}

}  // namespace
}  // namespace entrain
