// Vectors of fp32 for CPU kernels: GCC's vector extensions at the width that the binary is compiled
// for (AVX-512, AVX2, else 16 bytes), so that a kernel is written once. Arithmetic operators are
// the compiler's.
//
// A result may differ between instruction sets (other widths sum in another order); on one it is a
// function of the operands.
#ifndef ENTRAIN_RUNTIME_KERNELS_SIMD_H_
#define ENTRAIN_RUNTIME_KERNELS_SIMD_H_

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

#include "runtime/tensor/dtype.h"

namespace entrain::simd {

#if defined(__AVX512F__)
inline constexpr int kBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kBytes = 32;
#else
inline constexpr int kBytes = 16;
#endif
// Elements of a Float.
inline constexpr int kLanes = kBytes / 4;

using Float = float __attribute__((vector_size(kBytes)));
using Int = int32_t __attribute__((vector_size(kBytes)));
using Word = uint32_t __attribute__((vector_size(kBytes)));
using HalfWord = uint16_t __attribute__((vector_size(kBytes / 2)));
using HalfFloat = float __attribute__((vector_size(kBytes / 2)));
using Wide = double __attribute__((vector_size(kBytes)));

#if defined(__AVX512F__)
// GCC 12 warns of an uninitialised value in the unmasked forms of the intrinsics.
inline constexpr __mmask16 kAll = 0xffff;
#endif

inline Float Broadcast(float value) { return Float{} + value; }
inline Float Zero() { return Float{}; }

// ---- Memory. No alignment is asked for. ----

inline Float Load(const float* from) {
  Float value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
inline Float Load(const Bf16* from) {
  HalfWord half;
  std::memcpy(&half, from, sizeof(half));
#if defined(__AVX512F__)
  const auto word = (Word)_mm512_maskz_cvtepu16_epi32(kAll, (__m256i)half);
#else
  const Word word = __builtin_convertvector(half, Word);
#endif
  return (Float)(word << 16);
}

inline void Store(float* to, Float value) { std::memcpy(to, &value, sizeof(value)); }
// Rounds to nearest even, keeps NaN a NaN: the bits of Bf16(float), denormals included
// (VCVTNEPS2BF16 would flush them).
inline void Store(Bf16* to, Float value) {
  const Word word = (Word)value;
  const Word rounded = word + 0x7fffU + ((word >> 16) & 1U);
  const Word bits = (value != value) ? (word | 0x400000U) : rounded;
#if defined(__AVX512F__)
  const auto half = (HalfWord)_mm512_maskz_cvtepi32_epi16(kAll, (__m512i)(bits >> 16));
#else
  const HalfWord half = __builtin_convertvector(bits >> 16, HalfWord);
#endif
  std::memcpy(static_cast<void*>(to), &half, sizeof(half));
}

// The first `count` (0 .. kLanes) elements; the others are 0, or left alone in memory.
template <typename T>
inline Float LoadPartial(const T* from, int64_t count) {
  T padded[kLanes] = {};
  std::memcpy(static_cast<void*>(padded), from, static_cast<size_t>(count) * sizeof(T));
  return Load(padded);
}
template <typename T>
inline void StorePartial(T* to, Float value, int64_t count) {
  T padded[kLanes];
  Store(padded, value);
  std::memcpy(static_cast<void*>(to), padded, static_cast<size_t>(count) * sizeof(T));
}

// Calls body(i, lanes) for i = 0, kLanes, 2·kLanes, … below n; `lanes` is an object that loads and
// stores at i: all lanes, or, in a last call for what remains, only those. Elements beyond the end
// load as 0.
//   ForEachVector(n, [&](int64_t i, auto lanes) { lanes.Store(out + i, lanes.Load(x + i) * scale);
//   });
struct AllLanes {
  // value, with 0 in lanes beyond the end.
  static Float Only(Float value) { return value; }
  template <typename T>
  Float Load(const T* from) const {
    return simd::Load(from);
  }
  template <typename T>
  void Store(T* to, Float value) const {
    simd::Store(to, value);
  }
};
struct FirstLanes {
  int64_t count;
  Float Only(Float value) const {
    float padded[kLanes];
    simd::Store(padded, value);
    return LoadPartial(padded, count);
  }
  template <typename T>
  Float Load(const T* from) const {
    return LoadPartial(from, count);
  }
  template <typename T>
  void Store(T* to, Float value) const {
    StorePartial(to, value, count);
  }
};
template <typename Body>
inline void ForEachVector(int64_t n, Body&& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, AllLanes{});
  if (i < n) body(i, FirstLanes{n - i});
}

// ---- Lane by lane. ----

// The larger (smaller) of a and b; b where either is NaN.
inline Float Max(Float a, Float b) {
#if defined(__AVX512F__)
  return (Float)_mm512_maskz_max_ps(kAll, (__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Float)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
inline Float Min(Float a, Float b) {
#if defined(__AVX512F__)
  return (Float)_mm512_maskz_min_ps(kAll, (__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Float)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}

inline Float Sqrt(Float x) {
#if defined(__AVX512F__)
  return (Float)_mm512_maskz_sqrt_ps(kAll, (__m512)x);
#elif defined(__AVX2__)
  return (Float)_mm256_sqrt_ps((__m256)x);
#else
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = std::sqrt(x[lane]);
  return x;
#endif
}

// The nearest integer, halves to even, for |x| < 2²²; other values come out near themselves.
inline Float Round(Float x) {
  constexpr float kShift = 0x1.8p23F;
  return (x + kShift) - kShift;
}

// value · 2^exponent for integral `exponent`. Without AVX-512 exponents are clamped to -127 .. 128,
// which stand for a factor of 0 and of infinity.
inline Float Scale(Float value, Float exponent) {
#if defined(__AVX512F__)
  return (Float)_mm512_maskz_scalef_ps(kAll, (__m512)value, (__m512)exponent);
#else
  const Float clamped = Min(Max(exponent, Broadcast(-127.0F)), Broadcast(128.0F));
  const Int biased = __builtin_convertvector(clamped, Int) + 127;
  return value * (Float)(biased << 23);
#endif
}

// 2^x within 1.5 ulp; 0 for -inf and anything below -150, inf for 128 and above, NaN for NaN.
// Without AVX-512, results below 2^-126 and above 2^127.5 may be 0 and inf.
inline Float Exp2(Float x) {
#if !defined(__AVX512F__)
  x = Min(Broadcast(200.0F), Max(Broadcast(-200.0F), x));  // keeps inf - inf out of f
#endif
  const Float n = Round(x);
  const Float f = x - n;
  Float q = Broadcast(0.000154531634F);
  q = q * f + 0.00133908633F;
  q = q * f + 0.00961808302F;
  q = q * f + 0.0555035695F;
  q = q * f + 0.240226507F;
  q = q * f + 0.693147182F;
  return Scale(q * f + 1.0F, n);
}

// e^x within 1.5 ulp; ends of the range as for Exp2.
inline Float Exp(Float x) {
  x = Min(Broadcast(200.0F), Max(Broadcast(-200.0F), x));
  const Float n = Round(x * 1.44269502F);
  Float r = x - n * 0.693145752F;  // ln 2 in two parts, of which the first is exact when times n
  r = r - n * 1.42860677e-6F;
  Float p = Broadcast(0.00139261759F);
  p = p * r + 0.00836317334F;
  p = p * r + 0.0416665561F;
  p = p * r + 0.166665778F;
  p = p * r + 0.5F;
  return Scale((p * r) * r + r + 1.0F, n);
}

// ---- Across lanes, always by halves: lane i with lane i + width/2. ----

template <typename Combine>
inline float Fold(Float value, Combine&& combine) {
#if defined(__AVX512F__)
  using Eight = float __attribute__((vector_size(32)));
  const Eight eight = combine(__builtin_shufflevector(value, value, 0, 1, 2, 3, 4, 5, 6, 7),
                              __builtin_shufflevector(value, value, 8, 9, 10, 11, 12, 13, 14, 15));
#elif defined(__AVX2__)
  const Float eight = value;
#endif
#if defined(__AVX2__)
  using Four = float __attribute__((vector_size(16)));
  const Four four = combine(__builtin_shufflevector(eight, eight, 0, 1, 2, 3),
                            __builtin_shufflevector(eight, eight, 4, 5, 6, 7));
#else
  const Float four = value;
#endif
  const auto two = combine(four, __builtin_shufflevector(four, four, 2, 3, 0, 1));
  return combine(two, __builtin_shufflevector(two, two, 1, 0, 3, 2))[0];
}

inline float HorizontalSum(Float value) {
  return Fold(value, [](auto a, auto b) { return a + b; });
}
inline float HorizontalMax(Float value) {
  return Fold(value, [](auto a, auto b) { return a > b ? a : b; });
}

// ---- fp64 sums. ----

// kLanes doubles in two registers.
struct Double {
  Wide low = {};
  Wide high = {};

  Double& operator+=(const Double& other) {
    low += other.low;
    high += other.high;
    return *this;
  }
  friend Double operator*(const Double& a, const Double& b) {
    return {a.low * b.low, a.high * b.high};
  }
};

inline Double ToDouble(Float value) {
  HalfFloat half[2];
  std::memcpy(half, &value, sizeof(value));
  return {__builtin_convertvector(half[0], Wide), __builtin_convertvector(half[1], Wide)};
}

inline double HorizontalSum(const Double& value) {
  double lanes[kLanes / 2];
  const Wide sum = value.low + value.high;
  std::memcpy(lanes, &sum, sizeof(lanes));
  for (int width = kLanes / 4; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

}  // namespace entrain::simd

#endif  // ENTRAIN_RUNTIME_KERNELS_SIMD_H_
