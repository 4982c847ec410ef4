#include "runtime/tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <type_traits>

#include "runtime/base/philox.h"

namespace entrain {
namespace {

Bf16 FromBits(uint16_t bits) {
  Bf16 value;
  value.bits = bits;
  return value;
}

TEST(Bf16, EveryValueRoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto wide = static_cast<float>(FromBits(static_cast<uint16_t>(bits)));
    const Bf16 back(wide);
    if (std::isnan(wide)) {
      // A signalling NaN becomes quiet; sign and payload stay.
      EXPECT_EQ(back.bits, bits | 0x40U) << bits;
    } else {
      EXPECT_EQ(back.bits, bits);
    }
  }
}

TEST(Bf16, TiesGoToTheEvenNeighbour) {
  EXPECT_EQ(Bf16(1.0F + 0x1p-8F).bits, Bf16(1.0F).bits);                // halfway, down to even
  EXPECT_EQ(static_cast<float>(Bf16(1.0F + 0x3p-8F)), 1.0F + 0x4p-8F);  // halfway, up to even
  EXPECT_EQ(static_cast<float>(Bf16(1.0F + 0x1p-8F + 0x1p-23F)), 1.0F + 0x2p-8F);  // just above
  EXPECT_EQ(static_cast<float>(Bf16(1.0F + 0x3p-8F - 0x1p-23F)), 1.0F + 0x2p-8F);  // just below
  EXPECT_EQ(static_cast<float>(Bf16(-1.0F - 0x3p-8F)), -1.0F - 0x4p-8F);
}

TEST(Bf16, RoundsToTheNearest) {
  for (uint64_t i = 0; i < 20000; ++i) {
    const auto x = std::bit_cast<float>(Philox(1, 2, i)[0]);
    if (!std::isfinite(x)) continue;
    const Bf16 rounded(x);
    const double error = std::abs(static_cast<double>(static_cast<float>(rounded)) - x);
    for (const int step : {-1, 1}) {
      const auto other = static_cast<float>(FromBits(static_cast<uint16_t>(rounded.bits + step)));
      if (!std::isfinite(other)) continue;
      EXPECT_LE(error, std::abs(static_cast<double>(other) - x)) << x;
    }
  }
}

TEST(Bf16, NanStaysNanAndLargeBecomesInfinite) {
  // A NaN whose payload lies in the lower half alone would round to infinity.
  const auto low_payload = std::bit_cast<float>(0x7f800001U);
  EXPECT_TRUE(std::isnan(static_cast<float>(Bf16(low_payload))));
  // All ones would carry into the sign.
  const auto all_ones = std::bit_cast<float>(0x7fffffffU);
  EXPECT_TRUE(std::isnan(static_cast<float>(Bf16(all_ones))));
  EXPECT_TRUE(std::isnan(static_cast<float>(Bf16(std::numeric_limits<float>::quiet_NaN()))));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(static_cast<float>(Bf16(kInfinity)), kInfinity);
  EXPECT_EQ(static_cast<float>(Bf16(-kInfinity)), -kInfinity);
  EXPECT_EQ(static_cast<float>(Bf16(std::numeric_limits<float>::max())), kInfinity);
}

TEST(Bf16, ZeroKeepsItsSignAndDenormalsLive) {
  EXPECT_EQ(Bf16(-0.0F).bits, 0x8000);
  EXPECT_EQ(Bf16(0x1p-133F).bits, 1);  // the least bf16
}

TEST(DType, SizesNamesAndTypes) {
  EXPECT_EQ(SizeOf(DType::kF32), 4);
  EXPECT_EQ(SizeOf(DType::kBf16), 2);
  EXPECT_EQ(SizeOf(DType::kI32), 4);
  EXPECT_EQ(kDTypeNames.Name(DType::kBf16), "bf16");
  EXPECT_EQ(kDTypeNames.Find("f32"), DType::kF32);
  static_assert(DTypeOf<float>::value == DType::kF32);
  static_assert(DTypeOf<Bf16>::value == DType::kBf16);
  static_assert(DTypeOf<int32_t>::value == DType::kI32);
}

TEST(DType, DispatchFloatMakesATypeOfADType) {
  auto is_bf16 = [](auto element) { return std::is_same_v<decltype(element), Bf16>; };
  EXPECT_TRUE(DispatchFloat(DType::kBf16, is_bf16));
  EXPECT_FALSE(DispatchFloat(DType::kF32, is_bf16));
}

}  // namespace
}  // namespace entrain
