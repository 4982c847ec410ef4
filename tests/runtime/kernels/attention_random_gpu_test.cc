// Attention of shapes, sharpnesses and gradients drawn at random against the float64 reference. ENTRAIN_RANDOM_ATTENTION =
// "SEED:COUNT" or "SEED:COUNT:FIRST" draws others than the default.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <random>
#include <vector>

#include "tests/support/attention_checks.h"
#include "tests/support/attention_on_gpu.h"

namespace entrain {
namespace {

class Draw {
 public:
  Draw(int seed, int number) : random_(static_cast<uint64_t>(seed) * 1'000'003 + number) {}

  int64_t Integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_() % static_cast<uint64_t>(high - low + 1));
  }
  bool Chance(int percent) { return Integer(1, 100) <= percent; }
  template <typename T>
  T Of(std::initializer_list<T> choices) {
    return choices.begin()[Integer(0, static_cast<int64_t>(choices.size()) - 1)];
  }
  float LogUniform(double low, double high) {
    const double share = static_cast<double>(Integer(0, 1 << 20)) / (1 << 20);
    return static_cast<float>(low * std::pow(high / low, share));
  }

 private:
  std::mt19937_64 random_;
};

// Products of all pairs: what a draw may cost.
constexpr int64_t kLargest = 8'000'000;

int64_t DrawLength(Draw& draw) {
  if (draw.Chance(30)) return draw.Integer(1, 700);
  const int64_t border =
      draw.Of<int64_t>({1, 2, 16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 576, 640});
  return std::max<int64_t>(1, border + draw.Integer(-1, 1));
}

AttentionCase DrawCase(Draw& draw) {
  AttentionCase c;
  const bool products = draw.Chance(75);
  c.dtype = products || draw.Chance(50) ? DType::kBf16 : DType::kF32;
  c.width = products ? draw.Of<int64_t>({32, 64, 64, 64, 80, 96, 128})
                     : draw.Of<int64_t>({1, 2, 3, 7, 16, 24, 33, 40, 48, 64, 100, 160, 255, 256});
  c.length = DrawLength(draw);
  c.heads = draw.Integer(1, 4);
  c.batch = draw.Integer(1, 3);
  auto cost = [&] { return c.batch * c.heads * c.length * c.length * c.width; };
  while (c.batch > 1 && cost() > kLargest) --c.batch;
  while (c.heads > 1 && cost() > kLargest) --c.heads;
  c.temperature =
      draw.Of({TemperatureKind::kNone, TemperatureKind::kPerHead, TemperatureKind::kPerQuery});
  c.entropy_gradient = draw.Chance(75);
  c.gradient_per_head = draw.Chance(40);
  c.query_scale = draw.Chance(50) ? 1.0F : draw.LogUniform(1e-3, 60.0);
  c.lse_low = draw.Chance(85);
  return c;
}

// Operands that are not as plain as those of AttentionOperands.
void Spoil(Draw& draw, AttentionOperands& operands) {
  const AttentionCase& c = operands.c;
  if (draw.Chance(40)) {  // temperatures about one value
    const float middle = draw.LogUniform(1e-3, 5.0);
    for (int64_t i = 0; i < operands.temperature.size(); ++i) {
      operands.temperature.Set(i, middle * static_cast<float>(operands.temperature.At(i)));
    }
  }
  if (draw.Chance(15)) {  // one row far sharper than its neighbours
    operands.temperature.Set(draw.Integer(0, operands.temperature.size() - 1),
                             draw.LogUniform(1e-6, 1e-2));
  }
  if (draw.Chance(25)) {  // zeros of both signs
    for (int64_t i = 0; i < operands.qkv.size(); i += draw.Integer(1, 9)) {
      operands.qkv.Set(i, draw.Chance(50) ? 0.0F : -0.0F);
    }
  }
  if (draw.Chance(10)) operands.dout.Fill(draw.Chance(50) ? 0.0F : -0.0F);
  if (draw.Chance(15)) {  // all keys of a head the same: entropies are log i
    const int64_t h = draw.Integer(0, c.heads - 1);
    for (int64_t i = 1; i < c.length; ++i) {
      for (int64_t d = 0; d < c.width; ++d) {
        operands.qkv.Set(operands.QkvIndex(0, i, 1, h, d),
                         static_cast<float>(operands.qkv.At(operands.QkvIndex(0, 0, 1, h, d))));
      }
    }
  }
  if (draw.Chance(25)) {  // one head's, or one row's, alone
    const int64_t kept = draw.Integer(0, operands.entropy_gradient.size() - 1);
    const float value = draw.LogUniform(1e-4, 100.0);
    operands.entropy_gradient.Fill(0.0F);
    operands.entropy_gradient.Set(kept, draw.Chance(50) ? value : -value);
  }
}

// Sums of absolute values beside those of the reference: what rounding a term by so much can do.
struct Sizes {
  std::vector<double> dq, dk, dv, dt;

  Sizes(const AttentionReference& r, const std::vector<double>& dout, const std::vector<double>& g,
        double exponent)
      : dq(r.length * r.width), dk(dq.size()), dv(dq.size()), dt(r.length) {
    for (int64_t i = 0; i < r.length; ++i) {
      double row = 0.0;  // Σ|dO·O|
      for (int64_t d = 0; d < r.width; ++d)
        row += std::abs(dout[i * r.width + d] * r.out[i * r.width + d]);
      for (int64_t j = 0; j <= i; ++j) {
        double dp = 0.0;
        for (int64_t d = 0; d < r.width; ++d)
          dp += std::abs(dout[i * r.width + d] * r.v[j * r.width + d]);
        const double a = r.probs[i * r.length + j];
        const double x = r.scores[i * r.length + j] - r.lse[i];
        const double ds = a * (dp + row + std::abs(g[i]) * (std::abs(x) + r.entropy[i] + exponent));
        const double factor = ds / (r.temperature[i] * std::sqrt(static_cast<double>(r.width)));
        dt[i] += ds * (std::abs(x) + r.entropy[i] + 0.1 + exponent) / r.temperature[i];
        for (int64_t d = 0; d < r.width; ++d) {
          dq[i * r.width + d] += factor * std::abs(r.k[j * r.width + d]);
          dk[j * r.width + d] += factor * std::abs(r.q[i * r.width + d]);
          dv[j * r.width + d] += a * std::abs(dout[i * r.width + d]);
        }
      }
    }
  }
};

double Sharpest(const AttentionReference& r) {
  double sharpest = 0.0;
  for (const double s : r.scores) sharpest = std::max(sharpest, std::abs(s));
  return sharpest;
}

void ExpectWithin(const char* name, const std::vector<double>& got, const std::vector<double>& want,
                  const std::vector<double>& size, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  double largest = 0.0;
  size_t at = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - want[i]) / (size[i] + 1e-30);
    if (error <= largest) continue;
    largest = error;
    at = i;
  }
  EXPECT_LE(largest, tolerance) << name << "[" << at << "]: " << got[at] << " for " << want[at]
                                << ", of size " << size[at];
}

void ExpectRows(const char* name, const std::vector<double>& got, const std::vector<double>& want,
                double tolerance) {
  EXPECT_LE(MaxDifference(got, want), tolerance) << name;
}

void ExpectNearReference(const AttentionOperands& operands) {
  ExpectFiniteAndEntropiesNonNegative(operands);
  const AttentionCase& c = operands.c;
  const bool f32 = c.dtype == DType::kF32;
  const double kind = f32 ? 4e-6 : 1.2e-2;  // rounding of what enters products
  std::vector<double> dt_want(operands.dtemperature.size(), 0.0),
      dt_size(operands.dtemperature.size(), 0.0);
  const int64_t columns = c.length + kSpareColumns;
  double sharpest = 0.0;  // of all
  for (int64_t b = 0; b < c.batch; ++b) {
    for (int64_t h = 0; h < c.heads; ++h) {
      const AttentionReference want = operands.Reference(b, h);
      // A score is off by some of its last places, and so are all numbers that its row is made of.
      const double exponent = 4e-7 * Sharpest(want);
      sharpest = std::max(sharpest, Sharpest(want));
      const Sizes sizes(want, operands.OutPart(operands.dout, b, h), operands.EntropyGradient(b, h),
                        exponent / kind);
      const double rough = kind + 2.0 * exponent;
      const std::vector<double> entropy = operands.Rows(operands.entropy, b, h);
      EXPECT_EQ(entropy[0], 0.0);
      ExpectRows("entropy", entropy, want.entropy, 2e-6 + exponent);
      ExpectRows("lse", operands.Rows(operands.lse, b, h), want.lse, 2e-6 + exponent);
      std::vector<double> spread(want.out.size(), 0.0);
      for (int64_t i = 0; i < c.length; ++i)
        for (int64_t j = 0; j <= i; ++j)
          for (int64_t d = 0; d < c.width; ++d)
            spread[i * c.width + d] +=
                want.probs[i * c.length + j] * std::abs(want.v[j * c.width + d]);
      ExpectWithin("out", operands.OutPart(operands.out, b, h), want.out, spread,
                   (f32 ? 2e-6 : 8e-3) + exponent);
      ExpectWithin("dq", operands.Part(operands.dqkv, b, h, 0), want.dq, sizes.dq, rough);
      ExpectWithin("dk", operands.Part(operands.dqkv, b, h, 1), want.dk, sizes.dk, rough);
      ExpectWithin("dv", operands.Part(operands.dqkv, b, h, 2), want.dv, sizes.dv, rough);
      for (int64_t i = 0; i < c.length; ++i) {
        if (c.temperature == TemperatureKind::kNone) continue;
        const int64_t at = c.temperature == TemperatureKind::kPerHead ? h : h * columns + i;
        dt_want[at] += want.dtemperature[i];
        dt_size[at] += sizes.dt[i];
      }
    }
  }
  if (c.temperature != TemperatureKind::kNone) {
    ExpectWithin("dt", operands.dtemperature.Values(), dt_want, dt_size, kind + 1e-6 * sharpest);
  }
}

TEST(AttentionGpu, RandomCases) {
  ENTRAIN_REQUIRE_GPU();
  int seed = 1;
  int count = 8;
  int first = 0;
  if (const char* chosen = std::getenv("ENTRAIN_RANDOM_ATTENTION"); chosen != nullptr) {
    ASSERT_GE(std::sscanf(chosen, "%d:%d:%d", &seed, &count, &first), 2) << chosen;
  }
  for (int number = first; number < first + count; ++number) {
    Draw draw(seed, number);
    const AttentionCase c = DrawCase(draw);
    Draw same = draw;
    AttentionOperands operands(c);
    AttentionOperands again(c);
    Spoil(draw, operands);
    Spoil(same, again);
    SCOPED_TRACE(absl::StrCat("ENTRAIN_RANDOM_ATTENTION=", seed, ":1:", number, ": ", c.Name()));
    RunOnGpu(operands);
    ExpectNearReference(operands);
    RunOnGpu(again);
    ExpectSameBits(operands, again);
    SCOPED_TRACE("on the CPU");
    for (const OwnedTensor* result : {&again.out, &again.lse, &again.entropy, &again.dqkv}) {
      std::memset(result->view().raw(), 0xff, static_cast<size_t>(result->view().bytes()));
    }
    again.Forward(Cpu());
    again.Backward(Cpu());
    ExpectNearReference(again);
  }
}

}  // namespace
}  // namespace entrain
