#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "runtime/device/device_memory.h"
#include "runtime/kernels/attention.h"
#include "tests/support/attention_operands.h"
#include "tests/support/gpu_test.h"

namespace entrain {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// A tensor's copy in the GPU's memory, `shift` bytes beyond what memory is aligned to.
class GpuCopy {
 public:
  explicit GpuCopy(const OwnedTensor& host, int64_t shift = 0)
      : memory_(DeviceKind::kCuda, host.view().bytes() + shift),
        data_(static_cast<char*>(memory_.data()) + shift),
        host_(host.view()) {
    CopyToDevice(Gpu(), host_.raw(), data_, host_.bytes());
  }

  TensorView view() const {
    const auto dim = [&](int i) { return host_.dim(i); };
    switch (host_.num_dims()) {
      case 1:
        return {data_, host_.dtype(), {dim(0)}};
      case 2:
        return {data_, host_.dtype(), {dim(0), dim(1)}};
      case 3:
        return {data_, host_.dtype(), {dim(0), dim(1), dim(2)}};
      case 4:
        return {data_, host_.dtype(), {dim(0), dim(1), dim(2), dim(3)}};
      default:
        return {data_, host_.dtype(), {dim(0), dim(1), dim(2), dim(3), dim(4)}};
    }
  }
  void ToHost() const { CopyToHost(Gpu(), data_, host_.raw(), host_.bytes()); }

 private:
  Buffer memory_;
  void* data_;
  TensorView host_;
};

// The ops on the GPU, with operands from and results to those on the host.
void Forward(const AttentionOperands& host, int64_t shift = 0) {
  const GpuCopy qkv(host.qkv, shift), temperature(host.temperature), out(host.out), lse(host.lse),
      lse_low(host.lse_low), entropy(host.entropy);
  const bool tempered = host.c.temperature != TemperatureKind::kNone;
  AttentionForward(Gpu(), {.qkv = qkv.view(),
                           .temperature = tempered ? temperature.view() : TensorView(),
                           .out = out.view(),
                           .lse = lse.view(),
                           .lse_low = host.c.lse_low ? lse_low.view() : TensorView(),
                           .entropy = entropy.view()});
  for (const GpuCopy* result : {&out, &lse, &lse_low, &entropy}) result->ToHost();
}

void Backward(const AttentionOperands& host, bool accumulate = false, int64_t shift = 0) {
  const GpuCopy qkv(host.qkv, shift), temperature(host.temperature), out(host.out), dout(host.dout),
      lse(host.lse), lse_low(host.lse_low), entropy(host.entropy), gradient(host.entropy_gradient),
      dqkv(host.dqkv), dtemperature(host.dtemperature);
  const bool tempered = host.c.temperature != TemperatureKind::kNone;
  AttentionBackward(Gpu(),
                    {.qkv = qkv.view(),
                     .temperature = tempered ? temperature.view() : TensorView(),
                     .out = out.view(),
                     .dout = dout.view(),
                     .lse = lse.view(),
                     .lse_low = host.c.lse_low ? lse_low.view() : TensorView(),
                     .entropy = entropy.view(),
                     .entropy_gradient = host.c.entropy_gradient ? gradient.view() : TensorView(),
                     .dqkv = dqkv.view(),
                     .dtemperature = tempered ? dtemperature.view() : TensorView(),
                     .accumulate = accumulate});
  dqkv.ToHost();
  dtemperature.ToHost();
}

void ForwardAndBackward(const AttentionOperands& host) {
  Forward(host);
  Backward(host);
}

void ExpectSameBits(const AttentionOperands& a, const AttentionOperands& b) {
  EXPECT_TRUE(a.out.SameBits(b.out));
  EXPECT_TRUE(a.lse.SameBits(b.lse));
  EXPECT_TRUE(a.lse_low.SameBits(b.lse_low));
  EXPECT_TRUE(a.entropy.SameBits(b.entropy));
  EXPECT_TRUE(a.dqkv.SameBits(b.dqkv));
  EXPECT_TRUE(a.dtemperature.SameBits(b.dtemperature));
}

class AttentionGpuCases : public ::testing::TestWithParam<AttentionCase> {};

// fp32: as on the CPU. bf16: probabilities and score gradients are rounded to 8 bits for the products, out and gradients are
// stored with 8: relative errors of 2^-9 each, at random; lse and entropies see none of it.
TEST_P(AttentionGpuCases, EqualsReference) {
  ENTRAIN_REQUIRE_GPU();
  const AttentionCase c = GetParam();
  const bool f32 = c.dtype == DType::kF32;
  const AttentionOperands operands(c);
  ForwardAndBackward(operands);

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
    EXPECT_LE(dt.Value(), f32 ? 6e-6 : 2e-2);
  }
}

std::vector<AttentionCase> Cases() {
  std::vector<AttentionCase> cases;
  const TemperatureKind kinds[] = {TemperatureKind::kNone, TemperatureKind::kPerHead,
                                   TemperatureKind::kPerQuery};
  int turn = 0;
  auto add = [&](int64_t length, int64_t width, DType dtype, bool entropy) {
    AttentionCase c{.batch = 1 + turn % 2, .length = length, .heads = 1 + turn % 3, .width = width};
    c.temperature = kinds[turn++ % 3];
    c.entropy_gradient = entropy;
    c.gradient_per_head = turn % 4 == 0;
    c.dtype = dtype;
    cases.push_back(c);
  };
  for (const bool entropy : {false, true}) {
    for (const int64_t width : {1, 4, 20, 64, 80}) {
      for (const int64_t length : {1, 2, 3, 17, 64, 100}) {
        add(length, width, DType::kF32, entropy);
      }
    }
    for (const int64_t width : {32, 64, 80, 96, 128}) {  // on tensor cores
      for (const int64_t length : {1, 31, 64, 97, 150}) {
        add(length, width, DType::kBf16, entropy);
      }
    }
  }
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    add(40, 256, dtype, true);
    add(65, 24, dtype, true);
  }
  for (const TemperatureKind kind : kinds) {
    for (const bool entropy : {false, true}) {
      for (const bool per_head : {false, true}) {
        if (per_head && !entropy) continue;
        AttentionCase c{2, 130, 2, 64, kind, entropy, DType::kBf16};
        c.gradient_per_head = per_head;
        cases.push_back(c);
      }
    }
  }
  AttentionCase unrefined{1, 150, 1, 64, TemperatureKind::kPerHead, true, DType::kBf16};
  unrefined.lse_low = false;
  cases.push_back(unrefined);
  cases.push_back({1, 300, 1, 64, TemperatureKind::kPerQuery, true, DType::kF32});
  cases.push_back({1, 515, 1, 64, TemperatureKind::kPerQuery, true, DType::kBf16});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, AttentionGpuCases, ::testing::ValuesIn(Cases()),
                         [](const auto& info) {
                           return absl::StrCat(info.index, "_", info.param.Name());
                         });

// The largest score is `max_score` in magnitude. What fp32 arithmetic on exact bf16 operands can reach, as on the CPU; on a
// real GPU twice that: its tensor cores cut off low bits of sums that a CPU rounds.
struct Sharpness {
  double max_score;
  double entropy_error;
};

class AttentionGpuAccuracy : public ::testing::TestWithParam<Sharpness> {};

TEST_P(AttentionGpuAccuracy, RowEntropy) {
  ENTRAIN_REQUIRE_GPU();
  AttentionCase c{.length = 1024, .width = 64, .dtype = DType::kBf16};
  double largest = 0.0;
  for (const double score : AttentionOperands(c).Reference(0, 0).scores) {
    largest = std::max(largest, std::abs(score));
  }
  c.query_scale = static_cast<float>(GetParam().max_score / largest);
  const AttentionOperands operands(c);
  Forward(operands);
  const std::vector<double> got = operands.Rows(operands.entropy, 0, 0);
  const double error = MaxDifference(got, operands.Reference(0, 0).entropy);
  EXPECT_LE(error, GetParam().entropy_error * (OnEmulatedGpu() ? 1.0 : 2.0));
  RecordProperty("error", std::to_string(error));
  for (const double entropy : got) EXPECT_GE(entropy, 0.0);
}

INSTANTIATE_TEST_SUITE_P(All, AttentionGpuAccuracy,
                         ::testing::Values(Sharpness{5, 1e-6}, Sharpness{21, 1.5e-6},
                                           Sharpness{128, 5e-6}));

// A width of each path, and both dtypes of the plain one.
std::vector<AttentionCase> Paths(AttentionCase c) {
  std::vector<AttentionCase> cases;
  for (const auto& [width, dtype] : {std::pair<int64_t, DType>{64, DType::kBf16},
                                     {128, DType::kBf16},
                                     {24, DType::kBf16},
                                     {16, DType::kF32}}) {
    c.width = width;
    c.dtype = dtype;
    cases.push_back(c);
  }
  return cases;
}

TEST(AttentionGpu, SameBitsInEveryRunWhateverRanBefore) {
  ENTRAIN_REQUIRE_GPU();
  std::vector<AttentionCase> cases =
      Paths({.batch = 2, .length = 100, .heads = 1, .temperature = TemperatureKind::kPerQuery});
  cases.push_back(cases[0]);
  cases.back().length = 140;  // beyond what one block holds
  for (const AttentionCase& c : cases) {
    const AttentionOperands first(c);
    ForwardAndBackward(first);
    AttentionOperands poison(AttentionCase{.batch = 1, .length = 130, .heads = 2, .width = 32});
    poison.qkv.Fill(kNaN);
    ForwardAndBackward(poison);
    const AttentionOperands second(c);
    ForwardAndBackward(second);
    ExpectSameBits(first, second);
  }
}

// The first query's softmax is over one score: no entropy and no gradient, without rounding.
TEST(AttentionGpu, FirstRowIsExact) {
  ENTRAIN_REQUIRE_GPU();
  for (const float scale : {0.01F, 300.0F}) {
    for (const AttentionCase& c : Paths({.batch = 2,
                                  .length = 70,
                                  .heads = 2,
                                  .temperature = TemperatureKind::kPerQuery,
                                  .query_scale = scale})) {
      const AttentionOperands operands(c);
      ForwardAndBackward(operands);
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

TEST(AttentionGpu, HugeScoresStayFiniteAndEntropiesNonNegative) {
  ENTRAIN_REQUIRE_GPU();
  for (const float scale : {1e2F, 1e6F}) {
    for (const AttentionCase& c : Paths({.length = 150, .query_scale = scale})) {
      const AttentionOperands operands(c);
      ForwardAndBackward(operands);
      for (const double entropy : operands.entropy.Values()) EXPECT_GE(entropy, 0.0);
      for (const OwnedTensor* result : {&operands.out, &operands.lse, &operands.dqkv}) {
        for (const double value : result->Values()) EXPECT_TRUE(std::isfinite(value));
      }
    }
  }
}

// Relative L2 errors of dq and of dtemperature summed over a head's queries, at sharp attention.
std::pair<double, double> SharpGradientError(int64_t width, DType dtype) {
  const AttentionOperands operands(AttentionCase{.length = 200,
                                                 .heads = 4,
                                                 .width = width,
                                                 .temperature = TemperatureKind::kPerHead,
                                                 .dtype = dtype,
                                                 .query_scale = 12.0F});
  ForwardAndBackward(operands);
  ErrorSum dq, dt;
  std::vector<double> dt_want;
  for (int64_t h = 0; h < 4; ++h) {
    const AttentionReference want = operands.Reference(0, h);
    dq.Add(operands.Part(operands.dqkv, 0, h, 0), want.dq);
    dt_want.push_back(std::accumulate(want.dtemperature.begin(), want.dtemperature.end(), 0.0));
  }
  dt.Add(operands.dtemperature.Values(), dt_want);
  return {dq.Value(), dt.Value()};
}

TEST(AttentionGpu, SharpGradientsKeepTheirDigits) {
  ENTRAIN_REQUIRE_GPU();
  const auto [dq, dt] = SharpGradientError(16, DType::kF32);
  EXPECT_LE(dq, 2e-6);
  EXPECT_LE(dt, 3e-6);
  const auto [rough_dq, rough_dt] = SharpGradientError(64, DType::kBf16);
  EXPECT_LE(rough_dq, 1e-2);
  EXPECT_LE(rough_dt, 1e-2);
}

TEST(AttentionGpu, ZeroEntropyGradientEqualsNone) {
  ENTRAIN_REQUIRE_GPU();
  for (const AttentionCase& c : Paths({.length = 90, .heads = 2})) {
    AttentionOperands zero(c);
    zero.entropy_gradient.Fill(0.0F);
    AttentionCase plain = c;
    plain.entropy_gradient = false;
    const AttentionOperands none(plain);
    ForwardAndBackward(zero);
    ForwardAndBackward(none);
    EXPECT_TRUE(zero.dqkv.SameBits(none.dqkv));
  }
}

TEST(AttentionGpu, EntropyGradientOfAHeadEqualsItsRows) {
  ENTRAIN_REQUIRE_GPU();
  for (AttentionCase c :
       Paths({.batch = 2, .length = 70, .heads = 2, .temperature = TemperatureKind::kPerHead})) {
    AttentionOperands rows(c);
    c.gradient_per_head = true;
    const AttentionOperands heads(c);
    for (int64_t i = 0; i < rows.entropy_gradient.size(); ++i) {
      rows.entropy_gradient.Set(
          i, static_cast<float>(heads.entropy_gradient.At(i / c.length % c.heads)));
    }
    ForwardAndBackward(rows);
    ForwardAndBackward(heads);
    ExpectSameBits(rows, heads);
  }
}

TEST(AttentionGpu, TemperatureGradientAccumulates) {
  ENTRAIN_REQUIRE_GPU();
  for (const TemperatureKind kind : {TemperatureKind::kPerHead, TemperatureKind::kPerQuery}) {
    for (const AttentionCase& c :
         Paths({.batch = 2, .length = 33, .heads = 2, .temperature = kind})) {
      AttentionOperands operands(c);
      ForwardAndBackward(operands);
      const std::vector<double> once = operands.dtemperature.Values();
      operands.dtemperature.Fill(0.5F);
      Backward(operands, /*accumulate=*/true);
      for (int64_t i = 0; i < operands.dtemperature.size(); ++i) {
        const bool spare = kind == TemperatureKind::kPerQuery && i % (33 + kSpareColumns) >= 33;
        if (spare) {
          EXPECT_EQ(once[i], 0.0);
        }
        EXPECT_NEAR(operands.dtemperature.At(i), 0.5 + once[i], 1e-6 * (1.0 + std::abs(once[i])));
      }
    }
  }
}

TEST(AttentionGpu, NanReachesTheQueriesThatSeeIt) {
  ENTRAIN_REQUIRE_GPU();
  constexpr int64_t kPosition = 71;
  for (const AttentionCase& c : Paths({.length = 150})) {
    AttentionOperands operands(c);
    operands.qkv.Set(operands.QkvIndex(0, kPosition, 1, 0, 3), kNaN);
    ForwardAndBackward(operands);
    for (int64_t i = 0; i < c.length; ++i) {
      EXPECT_EQ(std::isnan(operands.entropy.At(i)), i >= kPosition) << i;
      EXPECT_EQ(std::isnan(operands.lse.At(i)), i >= kPosition) << i;
      EXPECT_EQ(std::isnan(operands.out.At(operands.OutIndex(0, i, 0, 0))), i >= kPosition) << i;
    }
    EXPECT_TRUE(std::isnan(operands.dqkv.At(operands.QkvIndex(0, 149, 0, 0, 0))));
    EXPECT_TRUE(std::isnan(operands.dqkv.At(operands.QkvIndex(0, 0, 1, 0, 0))));
  }
}

TEST(AttentionGpu, NanInAQueryAndInAValue) {
  ENTRAIN_REQUIRE_GPU();
  for (const AttentionCase& c : Paths({.length = 20})) {
    AttentionOperands operands(c);
    operands.qkv.Set(operands.QkvIndex(0, 10, 0, 0, 0), kNaN);
    operands.qkv.Set(operands.QkvIndex(0, 15, 2, 0, 5), kNaN);
    Forward(operands);
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
  ForwardAndBackward(aligned);
  const AttentionOperands shifted(c);
  Forward(shifted, /*shift=*/2);
  Backward(shifted, /*accumulate=*/false, /*shift=*/2);
  ErrorSum out, dqkv;
  out.Add(shifted.out.Values(), aligned.out.Values());
  dqkv.Add(shifted.dqkv.Values(), aligned.dqkv.Values());
  EXPECT_LE(out.Value(), 4e-3);
  EXPECT_LE(dqkv.Value(), 1e-2);
  EXPECT_LE(MaxDifference(shifted.entropy.Values(), aligned.entropy.Values()), 2e-6);
}

struct DecodeCase {
  int64_t length;
  int64_t width;
  TemperatureKind temperature;
  DType dtype;
};
class AttentionGpuDecode : public ::testing::TestWithParam<DecodeCase> {};

// The last position of a sequence, decoded against a cache with room to spare, is the forward's last row.
TEST_P(AttentionGpuDecode, EqualsLastRowOfReference) {
  ENTRAIN_REQUIRE_GPU();
  const auto [length, width, temperature, dtype] = GetParam();
  constexpr int64_t kCapacityBeyond = 5;
  const AttentionOperands operands({1, length, 3, width, temperature, false, dtype});
  const int64_t heads = operands.c.heads;
  OwnedTensor q(dtype, {heads, width});
  OwnedTensor keys(dtype, {length + kCapacityBeyond, heads, width});
  OwnedTensor values(dtype, {length + kCapacityBeyond, heads, width});
  OwnedTensor out(dtype, {heads, width});
  OwnedTensor entropy(DType::kF32, {heads});
  for (OwnedTensor* tensor : {&keys, &values, &out, &entropy}) tensor->Fill(kNaN);
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
  const GpuCopy gpu_q(q), gpu_keys(keys), gpu_values(values), gpu_out(out), gpu_entropy(entropy),
      gpu_temperature(operands.temperature);
  const bool tempered = temperature != TemperatureKind::kNone;
  AttentionDecode(Gpu(), {.q = gpu_q.view(),
                          .keys = gpu_keys.view(),
                          .values = gpu_values.view(),
                          .temperature = tempered ? gpu_temperature.view() : TensorView(),
                          .out = gpu_out.view(),
                          .entropy = gpu_entropy.view(),
                          .length = length});
  gpu_out.ToHost();
  gpu_entropy.ToHost();
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
    All, AttentionGpuDecode,
    ::testing::Values(DecodeCase{1, 1, TemperatureKind::kNone, DType::kF32},
                      DecodeCase{1, 64, TemperatureKind::kPerQuery, DType::kBf16},
                      DecodeCase{2, 20, TemperatureKind::kPerHead, DType::kF32},
                      DecodeCase{17, 256, TemperatureKind::kPerQuery, DType::kF32},
                      DecodeCase{17, 64, TemperatureKind::kNone, DType::kBf16},
                      DecodeCase{100, 80, TemperatureKind::kPerQuery, DType::kF32},
                      DecodeCase{500, 64, TemperatureKind::kPerHead, DType::kBf16},
                      DecodeCase{500, 64, TemperatureKind::kNone, DType::kF32}));

}  // namespace
}  // namespace entrain
