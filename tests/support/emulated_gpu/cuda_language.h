// What CUDA C++ has beyond C++, for kernels that g++ compiles: keywords and functions. Built-in variables:
// kernel_thread.h. Only what kernels here use.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_CUDA_LANGUAGE_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_CUDA_LANGUAGE_H_

#include <cuda_runtime.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>

#include "tests/support/emulated_gpu/kernel_thread.h"

// ---- keywords ----

// The toolkit's headers define the others as nothing when g++ reads them.
#undef __launch_bounds__
#define __launch_bounds__(...)
// Static: blocks run one after another. The tag becomes a part of the symbol's name, by which the emulator finds what it has to
// overwrite before each block (shared_variables.cc).
#undef __shared__
#define __shared__ __attribute__((abi_tag("gpushared"))) static

// ---- barriers ----

inline void __syncthreads() { entrain::emulated::SyncBlock(); }
inline void __syncwarp() {
  entrain::emulated::JoinWarp(entrain::emulated::Collective::kSync, nullptr);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- bits ----

inline float __uint_as_float(unsigned int x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline unsigned int __float_as_uint(float x) { return std::bit_cast<unsigned int>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline int __popc(unsigned int x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned int>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned int>(x)) + 1; }

// ---- numbers ----

inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }

inline int min(int a, int b) { return b < a ? b : a; }
inline unsigned int min(unsigned int a, unsigned int b) { return b < a ? b : a; }
inline long min(long a, long b) { return b < a ? b : a; }
inline long long min(long long a, long long b) { return b < a ? b : a; }
inline float min(float a, float b) { return std::fmin(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned int max(unsigned int a, unsigned int b) { return a < b ? b : a; }
inline long max(long a, long b) { return a < b ? b : a; }
inline long long max(long long a, long long b) { return a < b ? b : a; }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }

// Rounded once each, never a part of a fused multiply-add.
inline float __fmul_rn(float a, float b) {
  float product = a * b;
  asm("" : "+x"(product));
  return product;
}
inline float __fadd_rn(float a, float b) {
  asm("" : "+x"(a), "+x"(b));
  float sum = a + b;
  asm("" : "+x"(sum));
  return sum;
}
inline float __fsub_rn(float a, float b) { return __fadd_rn(a, -b); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dmul_rn(double a, double b) {
  double product = a * b;
  asm("" : "+x"(product));
  return product;
}
inline double __dadd_rn(double a, double b) {
  asm("" : "+x"(a), "+x"(b));
  double sum = a + b;
  asm("" : "+x"(sum));
  return sum;
}
inline double __dsub_rn(double a, double b) { return __dadd_rn(a, -b); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }

// ---- atomics, of integers: without an order of anything else ----

template <typename T>
T FetchAdd(T* to, T x) {
  return std::atomic_ref<T>(*to).fetch_add(x, std::memory_order_relaxed);
}
template <typename T, typename Operation>
T FetchBy(T* to, Operation operation) {
  std::atomic_ref<T> number(*to);
  T old = number.load(std::memory_order_relaxed);
  while (!number.compare_exchange_weak(old, operation(old), std::memory_order_relaxed)) {
  }
  return old;
}
inline int atomicAdd(int* to, int x) { return FetchAdd(to, x); }
inline unsigned int atomicAdd(unsigned int* to, unsigned int x) { return FetchAdd(to, x); }
inline unsigned long long atomicAdd(unsigned long long* to, unsigned long long x) {
  return FetchAdd(to, x);
}
inline int atomicMax(int* to, int x) {
  return FetchBy(to, [x](int old) { return max(old, x); });
}
inline unsigned int atomicMax(unsigned int* to, unsigned int x) {
  return FetchBy(to, [x](unsigned int old) { return max(old, x); });
}
inline int atomicMin(int* to, int x) {
  return FetchBy(to, [x](int old) { return min(old, x); });
}
inline unsigned int atomicMin(unsigned int* to, unsigned int x) {
  return FetchBy(to, [x](unsigned int old) { return min(old, x); });
}
inline int atomicOr(int* to, int x) {
  return FetchBy(to, [x](int old) { return old | x; });
}
inline unsigned int atomicOr(unsigned int* to, unsigned int x) {
  return FetchBy(to, [x](unsigned int old) { return old | x; });
}

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_CUDA_LANGUAGE_H_
