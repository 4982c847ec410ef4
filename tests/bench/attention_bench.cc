// Time of the attention kernel at the shapes of GPT-2 124M: H = 12, D = 64. GFLOP/s counts the
// causal half only, 2 flops a multiply-add: 2 products forward, 5 backward.
//   attention_bench [threads]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/philox.h"
#include "runtime/device/buffer.h"
#include "runtime/kernels/attention.h"

namespace entrain {
namespace {

constexpr int64_t kHeads = 12;
constexpr int64_t kWidth = 64;
constexpr int kRepetitions = 40;

// The least seconds of each function; they take turns, so that a disturbance of the machine meets all of them.
std::vector<double> LeastSeconds(const std::vector<std::function<void()>>& functions) {
  std::vector<double> least(functions.size(), 1e9);
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    for (size_t i = 0; i < functions.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      functions[i]();
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      least[i] = std::min(least[i], seconds.count());
    }
  }
  return least;
}

struct Tensors {
  std::vector<Buffer> buffers;
  TensorView Make(DType dtype, std::initializer_list<int64_t> dims, uint64_t stream) {
    const TensorView shape(nullptr, dtype, dims);
    buffers.emplace_back(shape.bytes());
    const TensorView view(buffers.back().data(), dtype, dims);
    for (int64_t i = 0; i < view.size(); ++i) {
      const float value = NormalAt(1, stream, static_cast<uint64_t>(i));
      if (dtype == DType::kF32) view.data<float>()[i] = value;
      if (dtype == DType::kBf16) view.data<Bf16>()[i] = Bf16(value);
    }
    return view;
  }
};

void Measure(Context& context, DType dtype, int64_t batch, int64_t length) {
  Tensors tensors;
  const TensorView qkv = tensors.Make(dtype, {batch, length, 3, kHeads, kWidth}, 1);
  const TensorView dqkv = tensors.Make(dtype, {batch, length, 3, kHeads, kWidth}, 2);
  const TensorView out = tensors.Make(dtype, {batch, length, kHeads, kWidth}, 3);
  const TensorView dout = tensors.Make(dtype, {batch, length, kHeads, kWidth}, 4);
  const TensorView lse = tensors.Make(DType::kF32, {batch, kHeads, length}, 5);
  const TensorView lse_low = tensors.Make(DType::kF32, {batch, kHeads, length}, 8);
  const TensorView entropy = tensors.Make(DType::kF32, {batch, kHeads, length}, 6);
  const TensorView gradient = tensors.Make(DType::kF32, {batch, kHeads, length}, 7);
  auto forward_pass = [&] {
    AttentionForward(context, {.qkv = qkv,
                               .temperature = {},
                               .out = out,
                               .lse = lse,
                               .lse_low = lse_low,
                               .entropy = entropy});
  };
  auto backward_pass = [&](const TensorView& entropy_gradient) {
    AttentionBackward(context, {.qkv = qkv,
                                .temperature = {},
                                .out = out,
                                .dout = dout,
                                .lse = lse,
                                .lse_low = lse_low,
                                .entropy = entropy,
                                .entropy_gradient = entropy_gradient,
                                .dqkv = dqkv,
                                .dtemperature = {}});
  };
  const std::vector<double> seconds =
      LeastSeconds({forward_pass, [&] { backward_pass({}); }, [&] { backward_pass(gradient); }});
  const double forward = seconds[0];
  const double plain = seconds[1];
  const double with_entropy = seconds[2];
  const double flops = 2.0 * static_cast<double>(batch * kHeads * kWidth * length * length) / 2.0;
  std::printf(
      "%-4s B %2ld T %4ld  forward %7.3f ms %6.1f GFLOP/s  backward %7.3f ms %6.1f GFLOP/s"
      "  with entropy gradient %7.3f ms %6.1f GFLOP/s (%+.1f %%)\n",
      std::string(kDTypeNames.Name(dtype)).c_str(), static_cast<long>(batch),
      static_cast<long>(length), 1e3 * forward, 2e-9 * flops / forward, 1e3 * plain,
      5e-9 * flops / plain, 1e3 * with_entropy, 5e-9 * flops / with_entropy,
      100.0 * (with_entropy / plain - 1.0));
}

}  // namespace
}  // namespace entrain

int main(int argc, char** argv) {
  using entrain::DType;
  const auto context = entrain::Context::CreateCpu(argc > 1 ? std::atoi(argv[1]) : 2).value();
  std::printf("attention, H 12, D 64, %s\n", context->Description().c_str());
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    entrain::Measure(*context, dtype, 4, 128);
    entrain::Measure(*context, dtype, 2, 256);
    entrain::Measure(*context, dtype, 1, 1024);
  }
  return 0;
}
