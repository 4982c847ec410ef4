// What the machine can do at most: multiply-adds that never leave the registers, and updates of more memory than the caches hold.
#ifndef ENTRAIN_TESTS_BENCH_MACHINE_PEAK_H_
#define ENTRAIN_TESTS_BENCH_MACHINE_PEAK_H_

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <functional>

#include "runtime/device/buffer.h"
#include "runtime/device/context.h"
#include "runtime/device/parallel_for.h"
#include "runtime/kernels/simd.h"
#include "runtime/tensor/dtype.h"

namespace entrain {

// Seconds of the fastest of many runs of `body`, which was run once before to warm up.
inline double BestSeconds(const std::function<void()>& body, double budget_seconds = 0.4) {
  using Clock = std::chrono::steady_clock;
  body();
  double best = 1e30;
  const auto start = Clock::now();
  for (int run = 0; run < 3 || Clock::now() - start < std::chrono::duration<double>(budget_seconds);
       ++run) {
    const auto begin = Clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

// Independent chains of multiply-adds: enough to cover the latency of two units.
class RegisterChains {
 public:
  static constexpr int kNumChains = 12;
  static constexpr int64_t kRounds = 1'000'000;

  // Floating point operations of one call on one thread.
  static double Flops(DType dtype) {
    const int products = dtype == DType::kBf16 ? kBf16Products : 1;
    return 2.0 * simd::kLanes * products * kNumChains * static_cast<double>(kRounds);
  }

  static void Run(DType dtype) {
    const simd::Float half = Opaque(simd::Broadcast(0.5F));
    if (dtype == DType::kBf16) {
      Loop([half](simd::Float x) { return Bf16MultiplyAdd(x, half); });
    } else {
      Loop([half](simd::Float x) { return x * half + half; });
    }
  }

 private:
#ifdef __AVX512BF16__
  static constexpr int kBf16Products = 2;
  static simd::Float Bf16MultiplyAdd(simd::Float x, simd::Float half) {
    return (simd::Float)_mm512_dpbf16_ps((__m512)x, (__m512bh)half, (__m512bh)half);
  }
#else
  // No instruction for it: products of bf16 run as fp32.
  static constexpr int kBf16Products = 1;
  static simd::Float Bf16MultiplyAdd(simd::Float x, simd::Float half) { return x * half + half; }
#endif

  // `x`, of which the compiler then knows nothing: it must not merge chains or fold a loop.
  static simd::Float Opaque(simd::Float x) {
#if defined(__AVX512F__)
    asm volatile("" : "+v"(x));
#else
    asm volatile("" : "+x"(x));
#endif
    return x;
  }

  template <typename Step>
  static void Loop(Step&& step) {
    std::array<simd::Float, kNumChains> chains;
    for (simd::Float& chain : chains) chain = Opaque(simd::Zero());
    for (int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
      for (int i = 0; i < kNumChains; ++i) chains[i] = step(chains[i]);
    }
    for (const simd::Float& chain : chains) Opaque(chain);
  }
};

// Floating point operations a second, all threads of the context together.
inline double PeakFlops(const Context& context, DType dtype) {
  const double seconds = BestSeconds([&] {
    ParallelFor(context, context.num_threads(), [&](int64_t) { RegisterChains::Run(dtype); });
  });
  return context.num_threads() * RegisterChains::Flops(dtype) / seconds;
}

// Bytes a second, read and written, of an update in place.
inline double PeakBytes(const Context& context) {
  constexpr int64_t kSize = int64_t{64} << 20;
  constexpr int64_t kChunk = int64_t{1} << 18;
  const Buffer buffer(kSize * int64_t{sizeof(float)});
  auto* data = static_cast<float*>(buffer.data());
  const double seconds = BestSeconds([&] {
    ParallelForChunks(context, kSize, kChunk, [&](int64_t begin, int64_t end) {
      simd::ForEachVector(end - begin, [&](int64_t i, auto lanes) {
        lanes.Store(data + begin + i, lanes.Load(data + begin + i) + 1.0F);
      });
    });
  });
  return 2.0 * static_cast<double>(buffer.bytes()) / seconds;
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_BENCH_MACHINE_PEAK_H_
