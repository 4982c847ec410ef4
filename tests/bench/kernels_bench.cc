// Time of every kernel at the shapes of GPT-2 124M (B = 4, T = 128), with its share of the machine's peak. What is bound by
// memory and fits a cache goes beyond 100 % of memory's.
//
//   kernels_bench [threads] [part of a name]     threads: 0, all cores, unless given
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "parallel/sharded_power_iteration.h"
#include "parallel/sharded_row_norms.h"
#include "parallel/vocab_cross_entropy.h"
#include "runtime/base/philox.h"
#include "runtime/kernels/activation.h"
#include "runtime/kernels/adamw.h"
#include "runtime/kernels/attention.h"
#include "runtime/kernels/cast.h"
#include "runtime/kernels/embedding.h"
#include "runtime/kernels/layernorm.h"
#include "runtime/kernels/matmul.h"
#include "runtime/kernels/reduce.h"
#include "runtime/kernels/residual.h"
#include "runtime/kernels/rotary.h"
#include "tests/bench/machine_peak.h"

namespace entrain {
namespace {

constexpr int64_t kBatch = 4;
constexpr int64_t kPositions = 128;
constexpr int64_t kRows = kBatch * kPositions;
constexpr int64_t kHeads = 12;
constexpr int64_t kWidth = 768;
constexpr int64_t kHeadWidth = kWidth / kHeads;
constexpr int64_t kFfn = 4 * kWidth;
constexpr int64_t kVocab = 50257;
constexpr int64_t kPaddedVocab = 50304;

class KernelsBench {
 public:
  KernelsBench(Context& context, std::string filter)
      : context_(context), filter_(std::move(filter)) {
    peak_f32_ = PeakFlops(context, DType::kF32);
    peak_bf16_ = PeakFlops(context, DType::kBf16);
    peak_bytes_ = PeakBytes(context);
    std::printf("%s\n", context.Description().c_str());
    std::printf(
        "peak: %.0f GFLOP/s fp32, %.0f GFLOP/s bf16 from registers, %.1f GB/s from memory\n\n",
        peak_f32_ / 1e9, peak_bf16_ / 1e9, peak_bytes_ / 1e9);
    std::printf("%-24s %-5s %9s %9s %6s\n", "kernel", "", "ms", "rate", "peak");
  }

  void Matmuls(DType dtype) {
    const DType activation = dtype;
    const auto layer = [&](const std::string& name, int64_t in, int64_t out) {
      Product(name + " forward", dtype, activation, {kRows, out, in}, false, false);
      Product(name + " dX", dtype, activation, {kRows, in, out}, false, true);
      Product(name + " dW", dtype, DType::kF32, {in, out, kRows}, true, false);
    };
    layer("qkv", kWidth, 3 * kWidth);
    layer("attention out", kWidth, kWidth);
    layer("ffn in", kWidth, kFfn);
    layer("ffn out", kFfn, kWidth);
    Product("head logits", dtype, DType::kF32, {kRows, kPaddedVocab, kWidth}, false, true);
    Product("head dX", dtype, activation, {kRows, kWidth, kPaddedVocab}, false, false);
    Product("head dW", dtype, DType::kF32, {kPaddedVocab, kWidth, kRows}, true, false);
  }

  void Attention(DType dtype) {
    const TensorView qkv = Tensor(dtype, {kBatch, kPositions, 3, kHeads, kHeadWidth});
    const TensorView out = Tensor(dtype, {kBatch, kPositions, kHeads, kHeadWidth});
    const TensorView lse = Tensor(DType::kF32, {kBatch, kHeads, kPositions});
    const TensorView entropy = Tensor(DType::kF32, {kBatch, kHeads, kPositions});
    const TensorView gradient = Tensor(DType::kF32, {kBatch, kHeads, kPositions});
    const TensorView dqkv = Tensor(dtype, {kBatch, kPositions, 3, kHeads, kHeadWidth});
    // Two products of T(T+1)/2 × D forward, five backward.
    const double product = 1.0 * kBatch * kHeads * kPositions * (kPositions + 1) * kHeadWidth;
    Flops("attention forward", dtype, 2.0 * product, [&] {
      AttentionForward(context_, {.qkv = qkv, .out = out, .lse = lse, .entropy = entropy});
    });
    Flops("attention backward", dtype, 5.0 * product, [&] {
      AttentionBackward(context_, {.qkv = qkv,
                                   .out = out,
                                   .dout = out,
                                   .lse = lse,
                                   .entropy = entropy,
                                   .entropy_gradient = gradient,
                                   .dqkv = dqkv});
    });
    Bytes("rotary, 16 of 64 dims", dtype, qkv.bytes() / 3,
          [&] { Rotary(context_, {.qkv = qkv, .rotary_dims = 16}); });
    buffers_.clear();
  }

  void RowKernels(DType dtype) {
    const TensorView x = Tensor(DType::kF32, {kRows, kWidth});
    const TensorView dx = Tensor(DType::kF32, {kRows, kWidth});
    const TensorView out = Tensor(dtype, {kRows, kWidth});
    const TensorView gain = Tensor(DType::kF32, {kWidth});
    const TensorView bias = Tensor(DType::kF32, {kWidth});
    const TensorView mean = Tensor(DType::kF32, {kRows});
    const TensorView rstd = Tensor(DType::kF32, {kRows});
    Bytes("layernorm forward", dtype, x.bytes() + out.bytes(), [&] {
      LayerNormForward(
          context_, {.x = x, .gain = gain, .bias = bias, .out = out, .mean = mean, .rstd = rstd});
    });
    Bytes("layernorm backward", dtype, 3 * x.bytes() + out.bytes(), [&] {
      LayerNormBackward(context_, {.dout = out,
                                   .x = x,
                                   .gain = gain,
                                   .mean = mean,
                                   .rstd = rstd,
                                   .dx = dx,
                                   .dgain = gain,
                                   .dbias = bias});
    });
    Bytes("residual forward", dtype, 2 * x.bytes() + out.bytes(),
          [&] { ResidualForward(context_, {.y = x, .f = out, .out = dx}); });
    Bytes("residual backward", dtype, x.bytes() + out.bytes(),
          [&] { ResidualBackward(context_, {.dout = x, .dy = x, .df = out}); });
    const TensorView tokens = Tensor(DType::kI32, {kBatch, kPositions});
    const TensorView wte = Tensor(dtype, {kVocab, kWidth});
    Bytes("embedding forward", dtype, x.bytes() + out.bytes(),
          [&] { EmbeddingForward(context_, {.tokens = tokens, .wte = wte, .out = x}); });
    const TensorView dwte = Tensor(DType::kF32, {kVocab, kWidth});
    Bytes("embedding backward", DType::kF32, 3 * x.bytes(),
          [&] { EmbeddingBackward(context_, {.tokens = tokens, .dout = x, .dwte = dwte}); });
    buffers_.clear();
  }

  void FfnKernels(DType dtype) {
    const TensorView x = Tensor(dtype, {kRows, kFfn});
    const TensorView out = Tensor(dtype, {kRows, kFfn});
    const TensorView dx = Tensor(dtype, {kRows, kFfn});
    const TensorView sum = Tensor(DType::kF32, {kFfn});
    for (const Activation kind : {Activation::kGelu, Activation::kRelu}) {
      const std::string name = kind == Activation::kGelu ? "gelu" : "relu";
      Bytes(name + " forward", dtype, 2 * x.bytes(),
            [&] { ActivationForward(context_, {.kind = kind, .x = x, .out = out}); });
      Bytes(name + " backward", dtype, 3 * x.bytes(),
            [&] { ActivationBackward(context_, {.kind = kind, .x = x, .dout = out, .dx = dx}); });
    }
    Bytes("column sum", dtype, x.bytes(),
          [&] { ColumnSum(context_, {.x = x, .out = sum, .end = kFfn}); });
    buffers_.clear();
  }

  void CrossEntropies(DType dtype) {
    const TensorView logits = Tensor(DType::kF32, {kRows, kPaddedVocab});
    const TensorView targets = Tensor(DType::kI32, {kRows});
    const TensorView loss = Tensor(DType::kF32, {kRows});
    const int64_t stride = dtype == DType::kBf16 ? 2 * kPaddedVocab : kPaddedVocab;
    const TensorView dlogits(logits.raw(), dtype, {kRows, kPaddedVocab}, stride);
    const int64_t written = kRows * kPaddedVocab * SizeOf(dtype);
    const VocabCrossEntropy cross_entropy({}, {0, kVocab});
    Arena memory(context_, 1 << 20);
    const VocabCrossEntropy::Saved saved = VocabCrossEntropy::AllocateSaved(memory, kRows);
    Bytes("cross-entropy", dtype, logits.bytes() + written, [&] {
      // Runs on its own output after the first: as good a row of logits as any.
      cross_entropy.Run(context_,
                        {.logits = logits, .targets = targets, .loss = loss, .dlogits = dlogits},
                        saved);
    });
    buffers_.clear();
  }

  void Updates(DType dtype) {
    // Not a power of two: buffers that far apart share sets and banks, which halves the speed.
    constexpr int64_t kSize = 31'000'000;
    const TensorView value = Tensor(DType::kF32, {kSize});
    const TensorView gradient = Tensor(DType::kF32, {kSize});
    const TensorView first = Tensor(DType::kF32, {kSize});
    const TensorView second = Tensor(DType::kF32, {kSize});
    const TensorView compute = dtype == DType::kBf16 ? Tensor(dtype, {kSize}) : TensorView();
    const TensorView rate = Tensor(DType::kF32, {3});
    const TensorView scale = Tensor(DType::kF32, {1});
    Bytes("adamw, 31 M values", dtype, 7 * value.bytes() + compute.bytes(), [&] {
      AdamW(context_, {.parameters = {{.value = value,
                                       .gradient = gradient,
                                       .first_moment = first,
                                       .second_moment = second,
                                       .compute = compute}},
                       .rate = rate,
                       .gradient_scale = scale});
    });
    Bytes("sum of squares, 31 M", DType::kF32, value.bytes(),
          [&] { sink_ = sink_ + SumOfSquares(context_, value); });
    if (compute) {
      Bytes("cast, 31 M values", dtype, value.bytes() + compute.bytes(),
            [&] { Cast(context_, value, compute); });
    }
    buffers_.clear();
  }

  void WeightNorms() {
    const TensorView v = Tensor(DType::kF32, {kWidth, kFfn});
    const TensorView weight = Tensor(DType::kF32, {kWidth, kFfn});
    const TensorView units = Tensor(DType::kF32, {kFfn});
    const TensorView norms = Tensor(DType::kF32, {kFfn});
    const TensorView in = Tensor(DType::kF32, {kWidth});
    const TensorView sums = Sums(1 + kFfn), sigma = Sums(1);
    Bytes("weight norm forward", DType::kF32, 3 * v.bytes(), [&] {
      ShardedRowNorms({}, MatrixCut::kNone, NormAxis::kOutput)
          .Forward(context_, v, units, sums, norms, weight);
    });
    Bytes("power iteration", DType::kF32, 2 * v.bytes(), [&] {
      ShardedPowerIteration().Step(
          context_, v, {.u = units, .v = in, .next_u = norms, .sigma = sigma, .sums = sums});
    });
    buffers_.clear();
  }

 private:
  struct Shape {
    int64_t m, n, k;
  };

  TensorView Tensor(DType dtype, std::initializer_list<int64_t> dims) {
    const TensorView shape(nullptr, dtype, dims);
    const Buffer& buffer = buffers_.emplace_back(shape.bytes());
    const TensorView tensor(buffer.data(), dtype, dims);
    const TensorView flat(buffer.data(), dtype, {shape.size()});
    // In (0, 1]: no denormals, no roots of negative numbers, which cost time of their own. Token ids: 0 … 4095.
    for (int64_t i = 0; i < flat.size(); ++i) {
      const auto word = static_cast<uint32_t>(i * 2654435761U) >> 20;
      if (dtype == DType::kF32) {
        flat.data<float>()[i] = static_cast<float>(word + 1) / 4096.0F;
      } else if (dtype == DType::kBf16) {
        flat.data<Bf16>()[i] = Bf16(static_cast<float>(word + 1) / 4096.0F);
      } else {
        flat.data<int32_t>()[i] = static_cast<int32_t>(word);
      }
    }
    return tensor;
  }

  TensorView Sums(int64_t size) {
    return {buffers_.emplace_back(size * SizeOf(DType::kF64)).data(), DType::kF64, {size}};
  }

  void Product(const std::string& name, DType dtype, DType out_dtype, Shape shape, bool transpose_a,
               bool transpose_b) {
    if (!Chosen(name)) return;
    const auto [m, n, k] = shape;
    const TensorView a = Tensor(dtype, {transpose_a ? k : m, transpose_a ? m : k});
    const TensorView b = Tensor(dtype, {transpose_b ? n : k, transpose_b ? k : n});
    const TensorView out = Tensor(out_dtype, {m, n});
    Flops(name, dtype, 2.0 * static_cast<double>(m * n) * static_cast<double>(k), [&] {
      Matmul(context_,
             {.a = a, .b = b, .out = out, .transpose_a = transpose_a, .transpose_b = transpose_b});
    });
    buffers_.clear();
  }

  bool Chosen(const std::string& name) const { return name.find(filter_) != std::string::npos; }

  void Flops(const std::string& name, DType dtype, double flops,
             const std::function<void()>& body) {
    Line(name, dtype, flops, dtype == DType::kBf16 ? peak_bf16_ : peak_f32_, "GFLOP/s", body);
  }
  void Bytes(const std::string& name, DType dtype, int64_t bytes,
             const std::function<void()>& body) {
    Line(name, dtype, static_cast<double>(bytes), peak_bytes_, "GB/s", body);
  }
  void Line(const std::string& name, DType dtype, double work, double peak, const char* unit,
            const std::function<void()>& body) {
    if (!Chosen(name)) return;
    const double seconds = BestSeconds(body);
    std::printf("%-24s %-5s %9.3f %9.1f %5.0f%%  %s\n", name.c_str(),
                std::string(kDTypeNames.Name(dtype)).c_str(), seconds * 1e3, work / seconds / 1e9,
                100.0 * work / seconds / peak, unit);
    std::fflush(stdout);
  }

  Context& context_;
  std::string filter_;
  double peak_f32_ = 0.0;
  double peak_bf16_ = 0.0;
  double peak_bytes_ = 0.0;
  volatile double sink_ = 0.0;
  std::vector<Buffer> buffers_;
};

int Main(int argc, char** argv) {
  const int num_threads = argc > 1 ? std::atoi(argv[1]) : 0;
  auto context = Context::CreateCpu(num_threads);
  if (!context.ok()) {
    std::fprintf(stderr, "%s\n", context.status().ToString().c_str());
    return 2;
  }
  KernelsBench bench(**context, argc > 2 ? argv[2] : "");
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    bench.Matmuls(dtype);
    bench.Attention(dtype);
    bench.RowKernels(dtype);
    bench.FfnKernels(dtype);
    bench.CrossEntropies(dtype);
    bench.Updates(dtype);
  }
  bench.WeightNorms();
  return 0;
}

}  // namespace
}  // namespace entrain

int main(int argc, char** argv) { return entrain::Main(argc, argv); }
