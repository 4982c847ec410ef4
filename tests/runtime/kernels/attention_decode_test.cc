#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "runtime/kernels/attention.h"
#include "tests/support/attention_operands.h"

namespace entrain {
namespace {

struct DecodeCase {
  int64_t length;
  int64_t width;
  TemperatureKind temperature;
  DType dtype;
};
class AttentionDecodeCases : public ::testing::TestWithParam<DecodeCase> {};

// The last position of a sequence, decoded against a cache with room to spare, is the forward's last row.
TEST_P(AttentionDecodeCases, EqualsLastRowOfReference) {
  const auto [length, width, temperature, dtype] = GetParam();
  constexpr int64_t kCapacityBeyond = 5;
  const AttentionOperands operands({1, length, 3, width, temperature, false, dtype});
  const int64_t heads = operands.c.heads;
  OwnedTensor q(dtype, {heads, width});
  OwnedTensor keys(dtype, {length + kCapacityBeyond, heads, width});
  OwnedTensor values(dtype, {length + kCapacityBeyond, heads, width});
  OwnedTensor out(dtype, {heads, width});
  OwnedTensor entropy(DType::kF32, {heads});
  keys.Fill(std::numeric_limits<float>::quiet_NaN());
  values.Fill(std::numeric_limits<float>::quiet_NaN());
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t d = 0; d < width; ++d) {
      auto at = [&](int64_t i, int64_t part) {
        return static_cast<float>(operands.qkv.At(operands.QkvIndex(0, i, part, h, d)));
      };
      q.Set(h * width + d, at(length - 1, 0));
      for (int64_t j = 0; j < length; ++j) {
        keys.Set((j * heads + h) * width + d, at(j, 1));
        values.Set((j * heads + h) * width + d, at(j, 2));
      }
    }
  }
  auto context = AttentionContext(2);
  AttentionDecode(*context, {.q = q.view(),
                             .keys = keys.view(),
                             .values = values.view(),
                             .temperature = operands.temperature_view(),
                             .out = out.view(),
                             .entropy = entropy.view(),
                             .length = length});
  ErrorSum error;
  for (int64_t h = 0; h < heads; ++h) {
    const AttentionReference want = operands.Reference(0, h);
    std::vector<double> got;
    for (int64_t d = 0; d < width; ++d) got.push_back(out.At(h * width + d));
    error.Add(got, {want.out.end() - width, want.out.end()});
    EXPECT_NEAR(entropy.At(h), want.entropy.back(), 2e-6);
    EXPECT_GE(entropy.At(h), 0.0);
  }
  EXPECT_LE(error.Value(), dtype == DType::kF32 ? 1e-6 : 4e-3);
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
