// What attention makes of its operands, held against the float64 reference: the same for every backend.
#ifndef ENTRAIN_TESTS_SUPPORT_ATTENTION_CHECKS_H_
#define ENTRAIN_TESTS_SUPPORT_ATTENTION_CHECKS_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/support/attention_operands.h"

namespace entrain {

// After forward and backward. bf16 rounds probabilities, gradients and results to 8 bits; lse and entropies see none of it.
inline void ExpectReference(const AttentionOperands& operands, double f32_temperature_tolerance) {
  const AttentionCase& c = operands.c;
  const bool f32 = c.dtype == DType::kF32;
  ErrorSum out, dq, dk, dv, dt;
  std::vector<double> dt_want(operands.dtemperature.size(), 0.0);
  const int64_t columns = c.length + kSpareColumns;
  for (int64_t b = 0; b < c.batch; ++b) {
    for (int64_t h = 0; h < c.heads; ++h) {
      const AttentionReference want = operands.Reference(b, h);
      out.Add(operands.OutPart(operands.out, b, h), want.out);
      dq.Add(operands.Part(operands.dqkv, b, h, 0), want.dq);
      dk.Add(operands.Part(operands.dqkv, b, h, 1), want.dk);
      dv.Add(operands.Part(operands.dqkv, b, h, 2), want.dv);
      EXPECT_LE(MaxDifference(operands.Rows(operands.lse, b, h), want.lse), 2e-6);
      EXPECT_LE(MaxDifference(operands.Rows(operands.entropy, b, h), want.entropy), 2e-6);
      EXPECT_EQ(operands.Rows(operands.entropy, b, h)[0], 0.0);
      for (int64_t i = 0; i < c.length; ++i) {
        if (c.temperature == TemperatureKind::kPerHead) dt_want[h] += want.dtemperature[i];
        if (c.temperature == TemperatureKind::kPerQuery) {
          dt_want[h * columns + i] += want.dtemperature[i];
        }
      }
    }
  }
  // Over two or three rows no averaging hides one row's cancellation.
  const double f32_tolerance = c.length > 3 ? 2e-6 : 5e-6;
  const double tolerance = f32 ? f32_tolerance : 1e-2;
  EXPECT_LE(out.Value(), f32 ? 1e-6 : 4e-3);
  if (c.length > 1) {
    EXPECT_LE(dq.Value(), tolerance);
    EXPECT_LE(dk.Value(), tolerance);
  } else {
    EXPECT_EQ(dq.difference, 0.0);  // one score: no gradient, exactly
    EXPECT_EQ(dk.difference, 0.0);
  }
  EXPECT_LE(dv.Value(), tolerance);
  if (c.temperature != TemperatureKind::kNone) {
    dt.Add(operands.dtemperature.Values(), dt_want);
    EXPECT_LE(dt.Value(), f32 ? f32_temperature_tolerance : 2e-2);
  }
}

struct DecodeCase {
  int64_t length;
  int64_t width;
  TemperatureKind temperature;
  DType dtype;
};

// The last position of a sequence against a cache with room to spare.
struct DecodeOperands {
  static constexpr int64_t kHeads = 3;
  static constexpr int64_t kCapacityBeyond = 5;

  explicit DecodeOperands(const DecodeCase& c)
      : sequence({1, c.length, kHeads, c.width, c.temperature, false, c.dtype}),
        q(c.dtype, {kHeads, c.width}),
        keys(c.dtype, {c.length + kCapacityBeyond, kHeads, c.width}),
        values(c.dtype, {c.length + kCapacityBeyond, kHeads, c.width}),
        out(c.dtype, {kHeads, c.width}),
        entropy(DType::kF32, {kHeads}) {
    for (OwnedTensor* tensor : {&keys, &values, &out, &entropy}) {
      tensor->Fill(std::numeric_limits<float>::quiet_NaN());
    }
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t d = 0; d < c.width; ++d) {
        auto at = [&](int64_t i, int64_t part) {
          return static_cast<float>(sequence.qkv.At(sequence.QkvIndex(0, i, part, h, d)));
        };
        q.Set(h * c.width + d, at(c.length - 1, 0));
        for (int64_t j = 0; j < c.length; ++j) {
          keys.Set((j * kHeads + h) * c.width + d, at(j, 1));
          values.Set((j * kHeads + h) * c.width + d, at(j, 2));
        }
      }
    }
  }

  // It is the forward's last row.
  void ExpectLastRow() const {
    const int64_t width = sequence.c.width;
    ErrorSum error;
    for (int64_t h = 0; h < kHeads; ++h) {
      const AttentionReference want = sequence.Reference(0, h);
      std::vector<double> got;
      for (int64_t d = 0; d < width; ++d) got.push_back(out.At(h * width + d));
      error.Add(got, {want.out.end() - width, want.out.end()});
      EXPECT_NEAR(entropy.At(h), want.entropy.back(), 2e-6);
      EXPECT_GE(entropy.At(h), 0.0);
    }
    EXPECT_LE(error.Value(), sequence.c.dtype == DType::kF32 ? 1e-6 : 4e-3);
  }

  AttentionOperands sequence;
  OwnedTensor q, keys, values, out, entropy;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_ATTENTION_CHECKS_H_
