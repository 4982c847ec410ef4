// The attention kernel's operands for tests: random inputs of a case, results, and the float64 reference of each
// (sequence, head) pair.
#ifndef ENTRAIN_TESTS_SUPPORT_ATTENTION_OPERANDS_H_
#define ENTRAIN_TESTS_SUPPORT_ATTENTION_OPERANDS_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/philox.h"
#include "runtime/device/buffer.h"
#include "runtime/device/context.h"
#include "runtime/kernels/attention.h"
#include "runtime/tensor/tensor_view.h"
#include "tests/support/attention_reference.h"

namespace entrain {

inline std::unique_ptr<Context> AttentionContext(int threads) {
  return Context::CreateCpu(threads).value();
}

enum class TemperatureKind { kNone, kPerHead, kPerQuery };

struct AttentionCase {
  int64_t batch = 1;
  int64_t length = 1;
  int64_t heads = 1;
  int64_t width = 1;
  TemperatureKind temperature = TemperatureKind::kNone;
  bool entropy_gradient = true;
  DType dtype = DType::kF32;
  float query_scale = 1.0F;  // the larger, the sharper the attention
  bool lse_low = true;
  bool gradient_per_head = false;  // of entropies: [H]

  std::string Name() const {
    const char* const kind[] = {"none", "per_head", "per_query"};
    return absl::StrCat(
        "B", batch, "T", length, "H", heads, "D", width, "_", kind[static_cast<int>(temperature)],
        entropy_gradient ? "_entropy_" : "_plain_", dtype == DType::kF32 ? "f32" : "bf16");
  }
};

// A tensor that owns its memory.
class OwnedTensor {
 public:
  OwnedTensor(DType dtype, std::initializer_list<int64_t> dims)
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
  bool SameBits(const OwnedTensor& other) const {
    return std::memcmp(view_.raw(), other.view_.raw(), size() * SizeOf(view_.dtype())) == 0;
  }

 private:
  Buffer buffer_;
  TensorView view_;
};

inline constexpr int64_t kSpareColumns = 3;  // of a temperature [H, T'], beyond T

// All operands of one case. Results are filled with NaN beforehand, so that what a kernel leaves
// out is seen.
struct AttentionOperands {
  AttentionCase c;
  OwnedTensor qkv, temperature, out, lse, lse_low, entropy, dout, entropy_gradient, dqkv,
      dtemperature;

  explicit AttentionOperands(const AttentionCase& test_case)
      : c(test_case),
        qkv(c.dtype, {c.batch, c.length, 3, c.heads, c.width}),
        temperature(MakeTemperature(c)),
        out(c.dtype, {c.batch, c.length, c.heads, c.width}),
        lse(DType::kF32, {c.batch, c.heads, c.length}),
        lse_low(DType::kF32, {c.batch, c.heads, c.length}),
        entropy(DType::kF32, {c.batch, c.heads, c.length}),
        dout(c.dtype, {c.batch, c.length, c.heads, c.width}),
        entropy_gradient(MakeEntropyGradient(c)),
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
    for (OwnedTensor* result : {&out, &lse, &lse_low, &entropy, &dqkv, &dtemperature}) {
      result->Fill(std::numeric_limits<float>::quiet_NaN());
    }
  }

  static OwnedTensor MakeTemperature(const AttentionCase& c) {
    if (c.temperature == TemperatureKind::kPerQuery) {
      return {DType::kF32, {c.heads, c.length + kSpareColumns}};
    }
    return {DType::kF32, {c.heads}};
  }

  static OwnedTensor MakeEntropyGradient(const AttentionCase& c) {
    if (c.gradient_per_head) return {DType::kF32, {c.heads}};
    return {DType::kF32, {c.batch, c.heads, c.length}};
  }

  TensorView temperature_view() const {
    return c.temperature == TemperatureKind::kNone ? TensorView() : temperature.view();
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
    const bool none = c.temperature == TemperatureKind::kNone;
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
      case TemperatureKind::kNone:
        return 1.0F;
      case TemperatureKind::kPerHead:
        return static_cast<float>(temperature.At(head));
      case TemperatureKind::kPerQuery:
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

  std::vector<double> Part(const OwnedTensor& from, int64_t b, int64_t h, int64_t part) const {
    std::vector<double> values;
    for (int64_t i = 0; i < c.length; ++i) {
      for (int64_t d = 0; d < c.width; ++d) values.push_back(from.At(QkvIndex(b, i, part, h, d)));
    }
    return values;
  }
  std::vector<double> OutPart(const OwnedTensor& from, int64_t b, int64_t h) const {
    std::vector<double> values;
    for (int64_t i = 0; i < c.length; ++i) {
      for (int64_t d = 0; d < c.width; ++d) values.push_back(from.At(OutIndex(b, i, h, d)));
    }
    return values;
  }
  std::vector<double> Rows(const OwnedTensor& from, int64_t b, int64_t h) const {
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
    reference.Backward(OutPart(dout, b, h), EntropyGradient(b, h));
    return reference;
  }

  std::vector<double> EntropyGradient(int64_t b, int64_t h) const {
    if (!c.entropy_gradient) return std::vector<double>(c.length, 0.0);
    if (c.gradient_per_head) return std::vector<double>(c.length, entropy_gradient.At(h));
    return Rows(entropy_gradient, b, h);
  }
};

// Sum of squares of a difference and of what is expected, over several pairs.
struct ErrorSum {
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

inline double MaxDifference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference;  // keeps a NaN
  }
  return largest;
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_ATTENTION_OPERANDS_H_
