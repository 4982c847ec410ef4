#include "tests/support/emulated_gpu/tensor_core_sum.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "runtime/base/check.h"
#include "tests/support/emulated_gpu/device_info.h"

namespace entrain::emulated {
namespace {

constexpr int kFloatBits = 24;  // of a significand

struct Hardware {
  int terms;       // added at once, beside the sum
  int extra_bits;  // kept while they are
};

// x without what lies below `bits` bits under the highest one of 2^exponent.
double CutOff(double x, int exponent, int bits) {
  return std::ldexp(std::trunc(std::ldexp(x, bits - 1 - exponent)), exponent - bits + 1);
}

float TruncatedSum(const float* products, const Hardware& hardware, float c) {
  float largest = std::fabs(c);
  double plain = c;
  for (int k = 0; k < hardware.terms; ++k) {
    largest = std::max(largest, std::fabs(products[k]));
    plain += products[k];
  }
  if (largest == 0.0F || !std::isfinite(plain)) return static_cast<float>(plain);
  const int exponent = std::ilogb(largest), bits = kFloatBits + hardware.extra_bits;
  double sum = CutOff(c, exponent, bits);
  for (int k = 0; k < hardware.terms; ++k) sum += CutOff(products[k], exponent, bits);
  return sum == 0.0 ? 0.0F : static_cast<float>(CutOff(sum, std::ilogb(sum), kFloatBits));
}

float RoundedSum(const std::array<float, kProductTerms>& products, float c) {
  float sum = 0.0F;
  for (const float product : products) sum += product;
  return c + sum;
}

}  // namespace

bool SumsAreTruncated() {
  static const bool truncated = [] {
    const char* way = std::getenv("ENTRAIN_EMULATED_TENSOR_CORES");
    CHECK(way == nullptr || std::strcmp(way, "truncate") == 0) << "ENTRAIN_EMULATED_TENSOR_CORES";
    return way != nullptr;
  }();
  return truncated;
}

float Exponential(float x) {
  const float y = exp2f(x);
  if (!SumsAreTruncated() || x == 0.0F || !std::isnormal(y)) return y;
  uint32_t hash = std::bit_cast<uint32_t>(x) * 0x9e3779b1U;
  hash = (hash ^ hash >> 15) * 0x85ebca77U;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(y) + (hash >> 16) % 5 - 2);
}

float TensorCoreSum(const std::array<float, kProductTerms>& products, float c) {
  if (!SumsAreTruncated()) return RoundedSum(products, c);
  const Hardware hardware = Capability() < 90 ? Hardware{8, 1} : Hardware{16, 2};
  for (int k = 0; k < kProductTerms; k += hardware.terms) {
    c = TruncatedSum(&products[static_cast<size_t>(k)], hardware, c);
  }
  return c;
}

}  // namespace entrain::emulated
