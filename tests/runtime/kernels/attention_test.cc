#include "runtime/kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/philox.h"
#include "runtime/device/buffer.h"
#include "tests/support/attention_reference.h"

namespace entrain {
namespace {

std::unique_ptr<Context> Cpu(int threads) { return Context::CreateCpu(threads).value(); }

enum class Temperature { kNone, kPerHead, kPerQuery };

struct Case {
  int64_t batch = 1;
  int64_t length = 1;
  int64_t heads = 1;
  int64_t width = 1;
  Temperature temperature = Temperature::kNone;
  bool entropy_gradient = true;
  DType dtype = DType::kF32;
  float query_scale = 1.0F;  // the larger, the sharper the attention
  bool lse_low = true;

  std::string Name() const {
    const char* const kind[] = {"none", "per_head", "per_query"};
    return absl::StrCat(
        "B", batch, "T", length, "H", heads, "D", width, "_", kind[static_cast<int>(temperature)],
        entropy_gradient ? "_entropy_" : "_plain_", dtype == DType::kF32 ? "f32" : "bf16");
  }
};

// A tensor that owns its memory.
class Owned {
 public:
  Owned(DType dtype, std::initializer_list<int64_t> dims)
      : buffer_(TensorView(nullptr, dtype, dims).size() * SizeOf(dtype)),
        view_(buffer_.data(), dtype, dims) {}

  const TensorView& view() const { return view_; }
  int64_t size() const { return view_.size(); }
  double At(int64_t i) const {
    return view_.dtype() == DType::kF32 ? view_.data<float>()[i]
                                        : static_cast<float>(view_.data<Bf16>()[i]);
  }
  void Set(int64_t i, float value) {
    if (view_.dtype() == DType::kF32) {
      view_.data<float>()[i] = value;
    } else {
      view_.data<Bf16>()[i] = Bf16(value);
    }
  }
  void FillNormal(uint64_t stream, float scale = 1.0F) {
    for (int64_t i = 0; i < size(); ++i) Set(i, scale * NormalAt(7, stream, i));
  }
  void Fill(float value) {
    for (int64_t i = 0; i < size(); ++i) Set(i, value);
  }
  std::vector<double> Values() const {
    std::vector<double> values(size());
    for (int64_t i = 0; i < size(); ++i) values[i] = At(i);
    return values;
  }
  bool SameBits(const Owned& other) const {
    return std::memcmp(view_.raw(), other.view_.raw(), size() * SizeOf(view_.dtype())) == 0;
  }

 private:
  Buffer buffer_;
  TensorView view_;
};

constexpr int64_t kSpareColumns = 3;  // of a temperature [H, T'], beyond T

// All operands of one case. Results are filled with NaN beforehand, so that what a kernel leaves
// out is seen.
struct Operands {
  Case c;
  Owned qkv, temperature, out, lse, lse_low, entropy, dout, entropy_gradient, dqkv, dtemperature;

  explicit Operands(const Case& test_case)
      : c(test_case),
        qkv(c.dtype, {c.batch, c.length, 3, c.heads, c.width}),
        temperature(MakeTemperature(c)),
        out(c.dtype, {c.batch, c.length, c.heads, c.width}),
        lse(DType::kF32, {c.batch, c.heads, c.length}),
        lse_low(DType::kF32, {c.batch, c.heads, c.length}),
        entropy(DType::kF32, {c.batch, c.heads, c.length}),
        dout(c.dtype, {c.batch, c.length, c.heads, c.width}),
        entropy_gradient(DType::kF32, {c.batch, c.heads, c.length}),
        dqkv(c.dtype, {c.batch, c.length, 3, c.heads, c.width}),
        dtemperature(MakeTemperature(c)) {
    qkv.FillNormal(1);
    for (int64_t i = 0; i < qkv.size(); ++i) {
      if (i / (c.heads * c.width) % 3 == 0) qkv.Set(i, c.query_scale * qkv.At(i));
    }
    for (int64_t i = 0; i < temperature.size(); ++i) {
      temperature.Set(i, 0.6F + 0.9F * UniformFloat(Philox(3, 0, i)[0]));
    }
    dout.FillNormal(2);
    entropy_gradient.FillNormal(3, 0.5F);
    for (Owned* result : {&out, &lse, &lse_low, &entropy, &dqkv, &dtemperature}) {
      result->Fill(std::numeric_limits<float>::quiet_NaN());
    }
  }

  static Owned MakeTemperature(const Case& c) {
    if (c.temperature == Temperature::kPerQuery) {
      return {DType::kF32, {c.heads, c.length + kSpareColumns}};
    }
    return {DType::kF32, {c.heads}};
  }

  TensorView temperature_view() const {
    return c.temperature == Temperature::kNone ? TensorView() : temperature.view();
  }

  void Forward(Context& context) const {
    AttentionForward(context, {.qkv = qkv.view(),
                               .temperature = temperature_view(),
                               .out = out.view(),
                               .lse = lse.view(),
                               .lse_low = lse_low_view(),
                               .entropy = entropy.view()});
  }

  void Backward(Context& context, bool accumulate = false) const {
    const bool none = c.temperature == Temperature::kNone;
    AttentionBackward(
        context, {.qkv = qkv.view(),
                  .temperature = temperature_view(),
                  .out = out.view(),
                  .dout = dout.view(),
                  .lse = lse.view(),
                  .lse_low = lse_low_view(),
                  .entropy = entropy.view(),
                  .entropy_gradient = c.entropy_gradient ? entropy_gradient.view() : TensorView(),
                  .dqkv = dqkv.view(),
                  .dtemperature = none ? TensorView() : dtemperature.view(),
                  .accumulate = accumulate});
  }

  TensorView lse_low_view() const { return c.lse_low ? lse_low.view() : TensorView(); }

  float TemperatureAt(int64_t head, int64_t position) const {
    switch (c.temperature) {
      case Temperature::kNone:
        return 1.0F;
      case Temperature::kPerHead:
        return static_cast<float>(temperature.At(head));
      case Temperature::kPerQuery:
        return static_cast<float>(temperature.At(head * (c.length + kSpareColumns) + position));
    }
    return 0.0F;
  }

  // Index in qkv of part (0 q, 1 k, 2 v), and in out.
  int64_t QkvIndex(int64_t b, int64_t i, int64_t part, int64_t h, int64_t d) const {
    return (((b * c.length + i) * 3 + part) * c.heads + h) * c.width + d;
  }
  int64_t OutIndex(int64_t b, int64_t i, int64_t h, int64_t d) const {
    return ((b * c.length + i) * c.heads + h) * c.width + d;
  }

  std::vector<double> Part(const Owned& from, int64_t b, int64_t h, int64_t part) const {
    std::vector<double> values;
    for (int64_t i = 0; i < c.length; ++i) {
      for (int64_t d = 0; d < c.width; ++d) values.push_back(from.At(QkvIndex(b, i, part, h, d)));
    }
    return values;
  }
  std::vector<double> OutPart(const Owned& from, int64_t b, int64_t h) const {
    std::vector<double> values;
    for (int64_t i = 0; i < c.length; ++i) {
      for (int64_t d = 0; d < c.width; ++d) values.push_back(from.At(OutIndex(b, i, h, d)));
    }
    return values;
  }
  std::vector<double> Rows(const Owned& from, int64_t b, int64_t h) const {
    const std::vector<double> all = from.Values();
    const int64_t begin = (b * c.heads + h) * c.length;
    return {all.begin() + begin, all.begin() + begin + c.length};
  }

  AttentionReference Reference(int64_t b, int64_t h) const {
    AttentionReference reference;
    reference.length = c.length;
    reference.width = c.width;
    reference.q = Part(qkv, b, h, 0);
    reference.k = Part(qkv, b, h, 1);
    reference.v = Part(qkv, b, h, 2);
    for (int64_t i = 0; i < c.length; ++i) reference.temperature.push_back(TemperatureAt(h, i));
    reference.Forward();
    std::vector<double> gradient = Rows(entropy_gradient, b, h);
    if (!c.entropy_gradient) gradient.assign(gradient.size(), 0.0);
    reference.Backward(OutPart(dout, b, h), gradient);
    return reference;
  }
};

// Sum of squares of a difference and of what is expected, over several pairs.
struct RelativeError {
  double difference = 0.0;
  double expected = 0.0;
  void Add(const std::vector<double>& got, const std::vector<double>& want) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      difference += (got[i] - want[i]) * (got[i] - want[i]);
      expected += want[i] * want[i];
    }
  }
  double Value() const {
    return difference == 0.0 ? 0.0 : std::sqrt(difference / std::max(expected, 1e-300));
  }
};

double MaxDifference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference;  // keeps a NaN
  }
  return largest;
}

class AttentionCases : public ::testing::TestWithParam<Case> {};

TEST_P(AttentionCases, EqualsReference) {
  const Case c = GetParam();
  const bool f32 = c.dtype == DType::kF32;
  auto context = Cpu(2);
  const Operands operands(c);
  operands.Forward(*context);
  operands.Backward(*context);

  RelativeError out, dq, dk, dv, dt;
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
        if (c.temperature == Temperature::kPerHead) dt_want[h] += want.dtemperature[i];
        if (c.temperature == Temperature::kPerQuery) {
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
  if (c.temperature != Temperature::kNone) {
    dt.Add(operands.dtemperature.Values(), dt_want);
    EXPECT_LE(dt.Value(), f32 ? 4e-6 : 2e-2);
  }
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  const Temperature kinds[] = {Temperature::kNone, Temperature::kPerHead, Temperature::kPerQuery};
  int turn = 0;
  for (const int64_t length : {1, 2, 3, 12, 17, 64, 100, 128, 257}) {
    for (const int64_t width : {1, 4, 8, 16, 20, 64, 80}) {
      for (const bool entropy : {false, true}) {
        Case c{.batch = 1 + turn % 2, .length = length, .heads = 1 + turn % 3, .width = width};
        c.temperature = kinds[turn++ % 3];
        c.entropy_gradient = entropy;
        cases.push_back(c);
      }
    }
  }
  for (const Temperature kind : kinds) {
    for (const bool entropy : {false, true}) {
      for (const DType dtype : {DType::kF32, DType::kBf16}) {
        cases.push_back({3, 65, 2, 24, kind, entropy, dtype});
      }
    }
  }
  cases.push_back({1, 1024, 1, 64, Temperature::kPerQuery, true, DType::kF32});
  cases.push_back({1, 1024, 1, 64, Temperature::kNone, false, DType::kBf16});
  cases.push_back({1, 1024, 1, 20, Temperature::kPerHead, true, DType::kBf16});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, AttentionCases, ::testing::ValuesIn(Cases()), [](const auto& info) {
  return absl::StrCat(info.index, "_", info.param.Name());
});

// Relative L2 error of dq and of dtemperature summed over a head's queries, at sharp attention.
std::pair<double, double> SharpGradientError(bool lse_low) {
  auto context = Cpu(1);
  const Operands operands(Case{.length = 200,
                               .heads = 4,
                               .width = 16,
                               .temperature = Temperature::kPerHead,
                               .query_scale = 12.0F,
                               .lse_low = lse_low});
  operands.Forward(*context);
  operands.Backward(*context);
  RelativeError dq, dt;
  std::vector<double> dt_want;
  for (int64_t h = 0; h < 4; ++h) {
    const AttentionReference want = operands.Reference(0, h);
    dq.Add(operands.Part(operands.dqkv, 0, h, 0), want.dq);
    dt_want.push_back(std::accumulate(want.dtemperature.begin(), want.dtemperature.end(), 0.0));
  }
  dt.Add(operands.dtemperature.Values(), dt_want);
  return {dq.Value(), dt.Value()};
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

// The largest score is `max_score` in magnitude. The bounds are what fp32 arithmetic on exact bf16 operands can reach.
struct Sharpness {
  double max_score;
  double entropy_error;
};

double MaxScore(const AttentionReference& reference) {
  double largest = 0.0;
  for (const double score : reference.scores) largest = std::max(largest, std::abs(score));
  return largest;
}

class AttentionAccuracy : public ::testing::TestWithParam<Sharpness> {};

TEST_P(AttentionAccuracy, RowEntropy) {
  auto context = Cpu(2);
  Case c{.length = 1024, .width = 64, .dtype = DType::kBf16};
  c.query_scale = static_cast<float>(GetParam().max_score / MaxScore(Operands(c).Reference(0, 0)));
  const Operands operands(c);
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

TEST(Attention, HugeScoresStayFiniteAndEntropiesNonNegative) {
  auto context = Cpu(2);
  for (const float scale : {1e2F, 1e3F, 1e6F}) {
    const Operands operands(Case{.length = 200, .width = 16, .query_scale = scale});
    operands.Forward(*context);
    operands.Backward(*context);
    for (const double entropy : operands.entropy.Values()) EXPECT_GE(entropy, 0.0);
    for (const Owned* result : {&operands.out, &operands.lse, &operands.dqkv}) {
      for (const double value : result->Values()) EXPECT_TRUE(std::isfinite(value));
    }
  }
}

TEST(Attention, EqualScoresGiveLogarithmOfPosition) {
  auto context = Cpu(1);
  const Operands operands(Case{.length = 300, .width = 8, .query_scale = 0.0F});
  operands.Forward(*context);
  for (int64_t i = 0; i < 300; ++i) {
    EXPECT_NEAR(operands.entropy.At(i), std::log(static_cast<double>(i + 1)), 1e-6);
  }
}

// The first query's softmax is over one score: whatever the scores, no entropy and no gradient, without rounding.
TEST(Attention, FirstRowIsExact) {
  auto context = Cpu(1);
  for (const float scale : {0.01F, 1.0F, 300.0F}) {
    for (const int64_t length : {1, 70}) {
      const Operands operands(Case{.batch = 2,
                                   .length = length,
                                   .heads = 3,
                                   .width = 24,
                                   .temperature = Temperature::kPerQuery,
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
    for (const Temperature kind : {Temperature::kPerHead, Temperature::kPerQuery}) {
      const Case c{2, 150, 3, 20, kind, true, dtype};
      const Operands one(c);
      auto single = Cpu(1);
      one.Forward(*single);
      one.Backward(*single);
      for (const int threads : {2, 3, 7}) {
        auto context = Cpu(threads);
        const Operands many(c);
        many.Forward(*context);
        many.Backward(*context);
        EXPECT_TRUE(many.out.SameBits(one.out));
        EXPECT_TRUE(many.lse.SameBits(one.lse));
        EXPECT_TRUE(many.entropy.SameBits(one.entropy));
        EXPECT_TRUE(many.dqkv.SameBits(one.dqkv));
        EXPECT_TRUE(many.dtemperature.SameBits(one.dtemperature));
      }
    }
  }
}

// Scratch is kept between calls and shared by shapes: what an earlier call left there must not show.
TEST(Attention, SameBitsWhateverRanBefore) {
  const Case c{.batch = 1, .length = 77, .heads = 2, .width = 20};
  auto fresh = Cpu(2);
  const Operands first(c);
  first.Forward(*fresh);
  first.Backward(*fresh);

  auto used = Cpu(2);
  Operands poison(Case{.batch = 2, .length = 130, .heads = 2, .width = 64});
  poison.qkv.Fill(std::numeric_limits<float>::quiet_NaN());
  poison.Forward(*used);
  poison.Backward(*used);
  const Operands second(c);
  second.Forward(*used);
  second.Backward(*used);
  EXPECT_TRUE(second.out.SameBits(first.out));
  EXPECT_TRUE(second.entropy.SameBits(first.entropy));
  EXPECT_TRUE(second.dqkv.SameBits(first.dqkv));
}

TEST(Attention, ZeroEntropyGradientEqualsNone) {
  auto context = Cpu(2);
  const Case c{.batch = 2, .length = 90, .heads = 2, .width = 16};
  Operands zero(c);
  zero.entropy_gradient.Fill(0.0F);
  Case plain = c;
  plain.entropy_gradient = false;
  const Operands none(plain);
  for (const Operands* operands : {&std::as_const(zero), &none}) {
    operands->Forward(*context);
    operands->Backward(*context);
  }
  EXPECT_TRUE(zero.dqkv.SameBits(none.dqkv));
}

TEST(Attention, TemperatureOneEqualsNone) {
  auto context = Cpu(2);
  Case c{.batch = 1, .length = 40, .heads = 2, .width = 16};
  const Operands none(c);
  none.Forward(*context);
  for (const Temperature kind : {Temperature::kPerHead, Temperature::kPerQuery}) {
    c.temperature = kind;
    Operands one(c);
    one.temperature.Fill(1.0F);
    one.Forward(*context);
    EXPECT_TRUE(one.out.SameBits(none.out));
    EXPECT_TRUE(one.entropy.SameBits(none.entropy));
  }
}

TEST(Attention, TemperatureGradientAccumulates) {
  auto context = Cpu(2);
  for (const Temperature kind : {Temperature::kPerHead, Temperature::kPerQuery}) {
    Operands operands(Case{.batch = 2, .length = 33, .heads = 2, .width = 8, .temperature = kind});
    operands.Forward(*context);
    operands.Backward(*context);
    const std::vector<double> once = operands.dtemperature.Values();
    operands.dtemperature.Fill(0.5F);
    operands.Backward(*context, /*accumulate=*/true);
    for (int64_t i = 0; i < operands.dtemperature.size(); ++i) {
      const bool spare = kind == Temperature::kPerQuery && i % (33 + kSpareColumns) >= 33;
      if (spare) {
        EXPECT_EQ(once[i], 0.0);
      }
      EXPECT_NEAR(operands.dtemperature.At(i), 0.5 + once[i], 1e-6 * (1.0 + std::abs(once[i])));
    }
  }
}

// A NaN shows in every query that sees it, in none before, and ends in the gradient.
TEST(Attention, NanInAKeyReachesTheQueriesThatSeeIt) {
  auto context = Cpu(2);
  Operands operands(Case{.length = 150, .width = 20});
  constexpr int64_t kPosition = 71;
  operands.qkv.Set(operands.QkvIndex(0, kPosition, 1, 0, 3),
                   std::numeric_limits<float>::quiet_NaN());
  operands.Forward(*context);
  operands.Backward(*context);
  for (int64_t i = 0; i < 150; ++i) {
    EXPECT_EQ(std::isnan(operands.entropy.At(i)), i >= kPosition) << i;
    EXPECT_EQ(std::isnan(operands.lse.At(i)), i >= kPosition) << i;
    EXPECT_EQ(std::isnan(operands.out.At(operands.OutIndex(0, i, 0, 0))), i >= kPosition) << i;
  }
  EXPECT_TRUE(std::isnan(operands.dqkv.At(operands.QkvIndex(0, 149, 0, 0, 0))));
  EXPECT_TRUE(std::isnan(operands.dqkv.At(operands.QkvIndex(0, 0, 1, 0, 0))));
}

TEST(Attention, NanInAQueryAndInAValue) {
  auto context = Cpu(1);
  Operands operands(Case{.length = 20, .width = 8});
  operands.qkv.Set(operands.QkvIndex(0, 10, 0, 0, 0), std::numeric_limits<float>::quiet_NaN());
  operands.qkv.Set(operands.QkvIndex(0, 15, 2, 0, 5), std::numeric_limits<float>::quiet_NaN());
  operands.Forward(*context);
  EXPECT_TRUE(std::isnan(operands.entropy.At(10)));
  EXPECT_FALSE(std::isnan(operands.entropy.At(9)));
  EXPECT_FALSE(std::isnan(operands.entropy.At(15)));
  EXPECT_TRUE(std::isnan(operands.out.At(operands.OutIndex(0, 15, 0, 5))));
  EXPECT_FALSE(std::isnan(operands.out.At(operands.OutIndex(0, 15, 0, 4))));
}

// dH_i/ds_ij = −a_ij(log a_ij + H_i) and dH_i/dt_i = Var_a(u)/t_i³ with u = q·k/√D.
TEST(Attention, EntropyGradientIdentities) {
  auto context = Cpu(1);
  constexpr int64_t kLength = 90;
  constexpr int64_t kWidth = 12;
  constexpr int64_t kRow = 77;
  Operands operands(
      Case{.length = kLength, .width = kWidth, .temperature = Temperature::kPerQuery});
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
  const Operands operands(
      Case{.length = 9, .width = 5, .temperature = Temperature::kPerQuery, .query_scale = 2.0F});
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

struct DecodeCase {
  int64_t length;
  int64_t width;
  Temperature temperature;
  DType dtype;
};
class AttentionDecodeCases : public ::testing::TestWithParam<DecodeCase> {};

// The last position of a sequence, decoded against a cache with room to spare, is the forward's last row.
TEST_P(AttentionDecodeCases, EqualsLastRowOfReference) {
  const auto [length, width, temperature, dtype] = GetParam();
  constexpr int64_t kCapacityBeyond = 5;
  const Operands operands({1, length, 3, width, temperature, false, dtype});
  const int64_t heads = operands.c.heads;
  Owned q(dtype, {heads, width});
  Owned keys(dtype, {length + kCapacityBeyond, heads, width});
  Owned values(dtype, {length + kCapacityBeyond, heads, width});
  Owned out(dtype, {heads, width});
  Owned entropy(DType::kF32, {heads});
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
  auto context = Cpu(2);
  AttentionDecode(*context, {.q = q.view(),
                             .keys = keys.view(),
                             .values = values.view(),
                             .temperature = operands.temperature_view(),
                             .out = out.view(),
                             .entropy = entropy.view(),
                             .length = length});
  RelativeError error;
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

INSTANTIATE_TEST_SUITE_P(All, AttentionDecodeCases,
                         ::testing::Values(DecodeCase{1, 1, Temperature::kNone, DType::kF32},
                                           DecodeCase{1, 64, Temperature::kPerQuery, DType::kBf16},
                                           DecodeCase{2, 20, Temperature::kPerHead, DType::kF32},
                                           DecodeCase{16, 8, Temperature::kPerQuery, DType::kF32},
                                           DecodeCase{17, 64, Temperature::kNone, DType::kBf16},
                                           DecodeCase{100, 80, Temperature::kPerQuery, DType::kF32},
                                           DecodeCase{257, 64, Temperature::kPerHead, DType::kBf16},
                                           DecodeCase{500, 64, Temperature::kNone, DType::kF32}));

TEST(AttentionDeathTest, OperandsThatDoNotFitAreRefused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto context = Cpu(1);
  const Operands operands(Case{.batch = 2, .length = 6, .heads = 2, .width = 8});
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
  const Owned short_temperature(DType::kF32, {2, 5});
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
  const Owned bf16_dout(DType::kBf16, {2, 6, 2, 8});
  backward.dout = bf16_dout.view();
  EXPECT_DEATH(AttentionBackward(*context, backward), "attention dout must be f32");
}

TEST(AttentionDeathTest, DecodeLengthBeyondCacheIsRefused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto context = Cpu(1);
  const Owned q(DType::kF32, {2, 8});
  const Owned cache(DType::kF32, {4, 2, 8});
  const Owned entropy(DType::kF32, {2});
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
