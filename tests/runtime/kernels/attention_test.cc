#include "runtime/kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/attention_checks.h"
#include "tests/support/attention_operands.h"

namespace entrain {
namespace {

class AttentionCases : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionCases, EqualsReference) {
  auto context = AttentionContext(2);
  const AttentionOperands operands(GetParam());
  operands.Forward(*context);
  operands.Backward(*context);
  ExpectReference(operands, 4e-6);
}

std::vector<AttentionCase> Cases() {
  std::vector<AttentionCase> cases;
  const TemperatureKind kinds[] = {TemperatureKind::kNone, TemperatureKind::kPerHead,
                                   TemperatureKind::kPerQuery};
  int turn = 0;
  for (const int64_t length : {1, 2, 3, 12, 17, 64, 100, 128, 257}) {
    for (const int64_t width : {1, 4, 8, 16, 20, 64, 80}) {
      for (const bool entropy : {false, true}) {
        AttentionCase c{
            .batch = 1 + turn % 2, .length = length, .heads = 1 + turn % 3, .width = width};
        c.temperature = kinds[turn++ % 3];
        c.entropy_gradient = entropy;
        cases.push_back(c);
      }
    }
  }
  for (const TemperatureKind kind : kinds) {
    for (const bool entropy : {false, true}) {
      for (const DType dtype : {DType::kF32, DType::kBf16}) {
        cases.push_back({3, 65, 2, 24, kind, entropy, dtype});
      }
    }
  }
  cases.push_back({1, 1024, 1, 64, TemperatureKind::kPerQuery, true, DType::kF32});
  cases.push_back({1, 1024, 1, 64, TemperatureKind::kNone, false, DType::kBf16});
  cases.push_back({1, 1024, 1, 20, TemperatureKind::kPerHead, true, DType::kBf16});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, AttentionCases, ::testing::ValuesIn(Cases()), [](const auto& info) {
  return absl::StrCat(info.index, "_", info.param.Name());
});

std::pair<double, double> SharpGradientError(bool lse_low) {
  auto context = AttentionContext(1);
  AttentionCase c = SharpHeads();
  c.lse_low = lse_low;
  const AttentionOperands operands(c);
  operands.Forward(*context);
  operands.Backward(*context);
  return GradientErrors(operands);
}

// −(q·dq)/t, the same number on paper, is wrong by 3e-5 here: it multiplies what rounding leaves of Σ ds by the score.
TEST(Attention, SharpGradientsKeepTheirDigits) {
  const auto [dq, dt] = SharpGradientError(true);
  EXPECT_LE(dq, 2e-6);
  EXPECT_LE(dt, 3e-6);
  const auto [rough_dq, rough_dt] = SharpGradientError(false);
  EXPECT_LE(rough_dq, 5e-6);
  EXPECT_LE(rough_dt, 5e-6);
  EXPECT_LT(dq, rough_dq);
}

class AttentionAccuracy : public ::testing::TestWithParam<Sharpness> {};

TEST_P(AttentionAccuracy, RowEntropy) {
  auto context = AttentionContext(2);
  const AttentionOperands operands(CaseOf(GetParam()));
  operands.Forward(*context);
  const AttentionReference want = operands.Reference(0, 0);
  EXPECT_NEAR(MaxScore(want), GetParam().max_score, 0.01 * GetParam().max_score);
  const std::vector<double> got = operands.Rows(operands.entropy, 0, 0);
  EXPECT_LE(MaxDifference(got, want.entropy), GetParam().entropy_error);
  for (const double entropy : got) EXPECT_GE(entropy, 0.0);
}

INSTANTIATE_TEST_SUITE_P(All, AttentionAccuracy,
                         ::testing::Values(Sharpness{5, 7e-7}, Sharpness{21, 1.5e-6},
                                           Sharpness{128, 5e-6}));

// dH_i/ds_ij = −a_ij(log a_ij + H_i) and dH_i/dt_i = Var_a(u)/t_i³ with u = q·k/√D.
TEST(Attention, EntropyGradientIdentities) {
  auto context = AttentionContext(1);
  constexpr int64_t kLength = 90;
  constexpr int64_t kWidth = 12;
  constexpr int64_t kRow = 77;
  AttentionOperands operands(
      AttentionCase{.length = kLength, .width = kWidth, .temperature = TemperatureKind::kPerQuery});
  operands.dout.Fill(0.0F);
  operands.entropy_gradient.Fill(0.0F);
  operands.entropy_gradient.Set(kRow, 1.0F);
  operands.Forward(*context);
  operands.Backward(*context);

  const AttentionReference want = operands.Reference(0, 0);
  const double t = want.temperature[kRow];
  double mean = 0.0;
  double square = 0.0;
  std::vector<double> dq(kWidth, 0.0);
  std::vector<double> dk(kLength * kWidth, 0.0);
  for (int64_t j = 0; j <= kRow; ++j) {
    const double a = want.probs[kRow * kLength + j];
    const double u = want.scores[kRow * kLength + j] * t;
    mean += a * u;
    square += a * u * u;
    const double ds = -a * (std::log(a) + want.entropy[kRow]);
    for (int64_t d = 0; d < kWidth; ++d) {
      const double factor = ds / (t * std::sqrt(static_cast<double>(kWidth)));
      dq[d] += factor * want.k[j * kWidth + d];
      dk[j * kWidth + d] = factor * want.q[kRow * kWidth + d];
    }
  }
  const double variance = square - mean * mean;
  EXPECT_NEAR(operands.dtemperature.At(kRow), variance / (t * t * t), 1e-5);
  for (int64_t d = 0; d < kWidth; ++d) {
    EXPECT_NEAR(operands.dqkv.At(operands.QkvIndex(0, kRow, 0, 0, d)), dq[d], 1e-6);
  }
  EXPECT_LE(MaxDifference(operands.Part(operands.dqkv, 0, 0, 1), dk), 1e-6);
  for (const double dv : operands.Part(operands.dqkv, 0, 0, 2)) EXPECT_EQ(dv, 0.0);
}

// The loss that the reference's backward differentiates.
double ReferenceLoss(AttentionReference& reference, const std::vector<double>& dout,
                     const std::vector<double>& entropy_gradient) {
  reference.Forward();
  double loss = 0.0;
  for (size_t i = 0; i < dout.size(); ++i) loss += dout[i] * reference.out[i];
  for (size_t i = 0; i < entropy_gradient.size(); ++i) {
    loss += entropy_gradient[i] * reference.entropy[i];
  }
  return loss;
}

TEST(AttentionReference, BackwardEqualsFiniteDifferences) {
  const AttentionOperands operands(AttentionCase{
      .length = 9, .width = 5, .temperature = TemperatureKind::kPerQuery, .query_scale = 2.0F});
  const AttentionReference reference = operands.Reference(0, 0);
  const std::vector<double> dout = operands.OutPart(operands.dout, 0, 0);
  const std::vector<double> gradient = operands.Rows(operands.entropy_gradient, 0, 0);
  using Member = std::vector<double> AttentionReference::*;
  const std::pair<Member, Member> pairs[] = {
      {&AttentionReference::q, &AttentionReference::dq},
      {&AttentionReference::k, &AttentionReference::dk},
      {&AttentionReference::v, &AttentionReference::dv},
      {&AttentionReference::temperature, &AttentionReference::dtemperature}};
  constexpr double kStep = 1e-5;
  for (const auto& [value, derivative] : pairs) {
    for (size_t i = 0; i < (reference.*value).size(); ++i) {
      AttentionReference moved = reference;
      (moved.*value)[i] += kStep;
      const double above = ReferenceLoss(moved, dout, gradient);
      (moved.*value)[i] -= 2 * kStep;
      const double below = ReferenceLoss(moved, dout, gradient);
      EXPECT_NEAR((above - below) / (2 * kStep), (reference.*derivative)[i], 1e-8) << i;
    }
  }
}

}  // namespace
}  // namespace entrain
