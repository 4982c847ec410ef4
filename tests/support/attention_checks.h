// What attention makes of its operands, held against the float64 reference: the same for every backend.
#ifndef ENTRAIN_TESTS_SUPPORT_ATTENTION_CHECKS_H_
#define ENTRAIN_TESTS_SUPPORT_ATTENTION_CHECKS_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>
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

inline void ExpectSameBits(const AttentionOperands& a, const AttentionOperands& b) {
  EXPECT_TRUE(a.out.SameBits(b.out));
  EXPECT_TRUE(a.lse.SameBits(b.lse));
  EXPECT_TRUE(a.lse_low.SameBits(b.lse_low));
  EXPECT_TRUE(a.entropy.SameBits(b.entropy));
  EXPECT_TRUE(a.dqkv.SameBits(b.dqkv));
  EXPECT_TRUE(a.dtemperature.SameBits(b.dtemperature));
}

inline void ExpectFiniteAndEntropiesNonNegative(const AttentionOperands& operands) {
  for (const double entropy : operands.entropy.Values()) ASSERT_GE(entropy, 0.0);
  for (const OwnedTensor* result :
       {&operands.out, &operands.lse, &operands.dqkv, &operands.dtemperature}) {
    if (result == &operands.dtemperature && operands.c.temperature == TemperatureKind::kNone) {
      continue;
    }
    for (const double value : result->Values()) ASSERT_TRUE(std::isfinite(value));
  }
}

// After a NaN in the key at `position`: it shows in every query that sees it, in none before, and ends in the gradient.
inline void ExpectNanFrom(const AttentionOperands& operands, int64_t position) {
  const int64_t length = operands.c.length;
  for (int64_t i = 0; i < length; ++i) {
    EXPECT_EQ(std::isnan(operands.entropy.At(i)), i >= position) << i;
    EXPECT_EQ(std::isnan(operands.lse.At(i)), i >= position) << i;
    EXPECT_EQ(std::isnan(operands.out.At(operands.OutIndex(0, i, 0, 0))), i >= position) << i;
  }
  EXPECT_TRUE(std::isnan(operands.dqkv.At(operands.QkvIndex(0, length - 1, 0, 0, 0))));
  EXPECT_TRUE(std::isnan(operands.dqkv.At(operands.QkvIndex(0, 0, 1, 0, 0))));
}

// dtemperature was 0.5 before a backward that adds what another has made, `once`.
inline void ExpectAddedToHalf(const AttentionOperands& operands, const std::vector<double>& once) {
  const AttentionCase& c = operands.c;
  for (int64_t i = 0; i < operands.dtemperature.size(); ++i) {
    const bool spare =
        c.temperature == TemperatureKind::kPerQuery && i % (c.length + kSpareColumns) >= c.length;
    if (spare) {
      EXPECT_EQ(once[i], 0.0);
    }
    EXPECT_NEAR(operands.dtemperature.At(i), 0.5 + once[i], 1e-6 * (1.0 + std::abs(once[i])));
  }
}

// ---- sharp attention ----

inline AttentionCase SharpHeads() {
  return {.length = 200,
          .heads = 4,
          .width = 16,
          .temperature = TemperatureKind::kPerHead,
          .query_scale = 12.0F};
}

// Relative L2 errors of dq and of dtemperature summed over a head's queries.
inline std::pair<double, double> GradientErrors(const AttentionOperands& operands) {
  ErrorSum dq, dt;
  std::vector<double> dt_want;
  for (int64_t h = 0; h < operands.c.heads; ++h) {
    const AttentionReference want = operands.Reference(0, h);
    dq.Add(operands.Part(operands.dqkv, 0, h, 0), want.dq);
    dt_want.push_back(std::accumulate(want.dtemperature.begin(), want.dtemperature.end(), 0.0));
  }
  dt.Add(operands.dtemperature.Values(), dt_want);
  return {dq.Value(), dt.Value()};
}

// The largest score is `max_score` in magnitude. The bounds are what fp32 arithmetic on exact bf16 operands can reach.
struct Sharpness {
  double max_score;
  double entropy_error;
};

inline double MaxScore(const AttentionReference& reference) {
  double largest = 0.0;
  for (const double score : reference.scores) largest = std::max(largest, std::abs(score));
  return largest;
}

inline constexpr Sharpness kSharpnesses[] = {{5, 1e-6}, {21, 1.5e-6}, {128, 5e-6}};

inline AttentionCase CaseOf(const Sharpness& sharpness, int64_t length = 1024) {
  AttentionCase c{.length = length, .width = 64, .dtype = DType::kBf16};
  const double unscaled = MaxScore(AttentionOperands(c).Reference(0, 0));
  c.query_scale = static_cast<float>(sharpness.max_score / unscaled);
  return c;
}

// ---- decoding ----

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
