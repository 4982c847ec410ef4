#include "tests/bench/gpu_kernel_table.h"

#include <cstdio>
#include <functional>
#include <initializer_list>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/sharded_row_norms.h"
#include "parallel/vocab_cross_entropy.h"
#include "runtime/device/gpu_limits.h"
#include "runtime/kernels/activation.h"
#include "runtime/kernels/adamw.h"
#include "runtime/kernels/attention.h"
#include "runtime/kernels/attention_engine.h"
#include "runtime/kernels/cast.h"
#include "runtime/kernels/embedding.h"
#include "runtime/kernels/entropy_moments.h"
#include "runtime/kernels/entropy_penalty.h"
#include "runtime/kernels/gradient_norm.h"
#include "runtime/kernels/layernorm.h"
#include "runtime/kernels/matmul.h"
#include "runtime/kernels/matmul_tuning.h"
#include "runtime/kernels/reduce.h"
#include "runtime/kernels/residual.h"
#include "runtime/kernels/residual_norm.h"
#include "runtime/kernels/rotary.h"
#include "tests/bench/gpu_operands.h"
#include "tests/bench/gpu_products.h"
#include "tests/bench/gpu_timing.h"

namespace entrain {
namespace {

GpuShapes ShapesOf(BenchSize size) {
  GpuShapes shapes;
  if (size == BenchSize::kQuick) shapes.repetitions = 7;
  if (size == BenchSize::kSmoke) {
    // The second length is beyond those that a block does at once.
    shapes = {.rows = 320,
              .heads = 2,
              .width = 128,
              .vocab = 200,
              .padded_vocab = 256,
              .logits_rows = 32,
              .values = 3000,
              .lengths = {32, 320},
              .repetitions = 1,
              .flush_bytes = 1 << 16};
  }
  return shapes;
}

class Table {
 public:
  Table(Context& context, const GpuShapes& shapes, std::string filter, const GpuResults& results)
      : context_(context),
        shapes_(shapes),
        filter_(std::move(filter)),
        results_(results),
        limits_(LimitsOf(context.cuda().name)),
        timer_(context, shapes.repetitions, shapes.flush_bytes),
        operands_(context) {}

  void Header() const {
    std::printf("%s\n", context_.Description().c_str());
    if (limits_.bytes > 0.0) {
      std::printf("data sheet: %.0f TFLOP/s bf16, %.2f TB/s\n", limits_.bf16_flops / 1e12,
                  limits_.bytes / 1e12);
    }
    std::printf("%-36s %10s %10s %-8s %6s\n", "kernel", "ms", "rate", "", "share");
  }

  void Matmuls() {
    products_ = StepProducts(operands_, shapes_).products();
    for (const GpuProduct& product : products_) Run(product);
    Synchronize(context_);
    // How the sums of weight gradients are cut is a rule's choice until something has been measured.
    for (const GpuProduct& product : products_) {
      if (product.name.ends_with(" dW")) Product(product.name + ", untuned", product);
    }
    for (const TunedMatmul& one : TuneMatmuls(context_, {})) {
      std::printf("  %s: %.4f ms, by choice %d of %d %.4f ms\n", one.product.c_str(), one.before_ms,
                  one.choice, one.algorithms, one.after_ms);
    }
    for (const GpuProduct& product : products_) Product(product.name, product);
    Clear();
  }

  void Attention() {
    for (const int64_t length : shapes_.lengths) Attention(length);
    const TensorView entropy = Attended(shapes_.lengths.back(), 1);
    const TensorView layer = entropy.Reshape({1, entropy.dim(0), entropy.dim(1), entropy.dim(2)});
    const HeadMoments moments = {Tensor(DType::kF64, {1, shapes_.heads, 2}),
                                 Tensor(DType::kF32, {1, shapes_.heads, 2})};
    Bytes("entropy moments", entropy.bytes(), [&] { EntropyMoments(context_, layer, moments); });
    const TensorView gradient = Attended(shapes_.lengths.back(), 1);
    const TensorView threshold = Tensor(DType::kF32, {shapes_.heads});
    const TensorView most = Tensor(DType::kF64, {shapes_.lengths.back()});
    const TensorView strength = Tensor(DType::kF64, {1});
    const TensorView dthreshold = Tensor(DType::kF32, {shapes_.heads});
    Bytes("row penalty gradient", 2 * entropy.bytes(), [&] {
      RowPenaltyGradient(context_, {.entropy = entropy,
                                    .threshold = threshold,
                                    .max_entropy = most,
                                    .margin = 0.2,
                                    .strength = strength,
                                    .gradient = gradient,
                                    .threshold_gradient = dthreshold});
    });
    Clear();
  }

  // The other engine of attention's backward, beside this project's in the same minute.
  void CudnnAttention() {
    for (const int64_t length : shapes_.lengths) {
      for (const auto kind : {EntropyGradientKind::kNone, EntropyGradientKind::kHead}) {
        CudnnAttention(length, kind);
      }
    }
  }

  void RowKernels() {
    const auto [rows, width] = std::pair(shapes_.rows, shapes_.width);
    const TensorView x = Tensor(DType::kF32, {rows, width});
    const TensorView dx = Tensor(DType::kF32, {rows, width});
    const TensorView out = Tensor(DType::kBf16, {rows, width});
    const TensorView gain = Tensor(DType::kF32, {width});
    const TensorView bias = Tensor(DType::kF32, {width});
    const TensorView mean = Tensor(DType::kF32, {rows});
    const TensorView rstd = Tensor(DType::kF32, {rows});
    Bytes("layernorm forward", x.bytes() + out.bytes(), [&] {
      LayerNormForward(
          context_, {.x = x, .gain = gain, .bias = bias, .out = out, .mean = mean, .rstd = rstd});
    });
    const TensorView copy = Tensor(DType::kBf16, {rows, width});
    // As in a block: the gradient joins the stream's, a rounded copy goes on.
    Bytes("layernorm backward", 3 * x.bytes() + 2 * out.bytes(), [&] {
      LayerNormBackward(context_, {.dout = out,
                                   .x = x,
                                   .gain = gain,
                                   .mean = mean,
                                   .rstd = rstd,
                                   .dx = dx,
                                   .dx_copy = copy,
                                   .dgain = gain,
                                   .dbias = bias,
                                   .add_to_dx = true});
    });
    Bytes("residual forward", 2 * x.bytes() + out.bytes(),
          [&] { ResidualForward(context_, {.y = x, .f = out, .out = dx}); });
    Bytes("residual and layernorm", 3 * x.bytes() + out.bytes(), [&] {
      ResidualNormForward(context_, {.sum = {.y = dx, .f = x, .out = dx},
                                     .gain = gain,
                                     .bias = bias,
                                     .normed = out,
                                     .mean = mean,
                                     .rstd = rstd});
    });
    Bytes("residual backward", x.bytes() + out.bytes(),
          [&] { ResidualBackward(context_, {.dout = x, .dy = x, .df = out}); });
    Embeddings(x);
    Clear();
  }

  void FfnKernels() {
    const TensorView x = Tensor(DType::kBf16, {shapes_.rows, shapes_.ffn()});
    const TensorView out = Tensor(DType::kBf16, {shapes_.rows, shapes_.ffn()});
    const TensorView dx = Tensor(DType::kBf16, {shapes_.rows, shapes_.ffn()});
    const TensorView sum = Tensor(DType::kF32, {shapes_.ffn()});
    Bytes("gelu forward", 2 * x.bytes(),
          [&] { ActivationForward(context_, {.kind = Activation::kGelu, .x = x, .out = out}); });
    Bytes("gelu backward", 3 * x.bytes(), [&] {
      ActivationBackward(context_, {.kind = Activation::kGelu, .x = x, .dout = out, .dx = dx});
    });
    Bytes("column sum", x.bytes(),
          [&] { ColumnSum(context_, {.x = x, .out = sum, .end = shapes_.ffn()}); });
    Clear();
  }

  void CrossEntropies() {
    const auto [rows, columns] = std::pair(shapes_.logits_rows, shapes_.padded_vocab);
    const TensorView logits = Tensor(DType::kF32, {rows, columns});
    const TensorView targets = operands_.Tokens(shapes_.vocab, {rows});
    const TensorView loss = Tensor(DType::kF32, {rows});
    const TensorView dlogits(logits.raw(), DType::kBf16, {rows, columns}, 2 * columns);
    const VocabCrossEntropy cross_entropy({}, {0, shapes_.vocab});
    Arena memory(context_, int64_t{4} << 20);
    const VocabCrossEntropy::Saved saved = VocabCrossEntropy::AllocateSaved(memory, rows);
    const TensorView rounded(logits.raw(), DType::kBf16, {rows, columns});
    // Runs on its own output after the first: as good a row of logits as any.
    const auto run = [&](const TensorView& from, const TensorView& to) {
      cross_entropy.Run(context_, {.logits = from, .targets = targets, .loss = loss, .dlogits = to},
                        saved);
    };
    Bytes("cross-entropy", logits.bytes() + logits.bytes() / 2, [&] { run(logits, dlogits); });
    Bytes("cross-entropy, bf16 logits", 2 * rounded.bytes(), [&] { run(rounded, rounded); });
    Clear();
  }

  void Updates() {
    const int64_t size = shapes_.values;
    const TensorView value = Tensor(DType::kF32, {size});
    const TensorView gradient = Tensor(DType::kF32, {size});
    const TensorView first = Tensor(DType::kF32, {size});
    const TensorView second = Tensor(DType::kF32, {size}, /*positive=*/true);
    const TensorView compute = Tensor(DType::kBf16, {size});
    const TensorView rate = Tensor(DType::kF32, {3});
    const TensorView scale = Tensor(DType::kF32, {1});
    Bytes("adamw", 7 * value.bytes() + compute.bytes(), [&] {
      AdamW(context_, {.parameters = {{.value = value,
                                       .gradient = gradient,
                                       .first_moment = first,
                                       .second_moment = second,
                                       .compute = compute}},
                       .rate = rate,
                       .gradient_scale = scale});
    });
    const TensorView sums = Tensor(DType::kF64, {1});
    Bytes("sum of squares", value.bytes(), [&] { SumsOfSquares(context_, {{value}}, sums); });
    Bytes("cast", value.bytes() + compute.bytes(), [&] { Cast(context_, value, compute); });
    Clear();
  }

  void WeightNorms() {
    const TensorView v = Tensor(DType::kF32, {shapes_.width, shapes_.ffn()});
    const TensorView weight = Tensor(DType::kBf16, {shapes_.width, shapes_.ffn()});
    const TensorView units = Tensor(DType::kF32, {shapes_.ffn()}, /*positive=*/true);
    const TensorView norms = Tensor(DType::kF32, {shapes_.ffn()});
    const TensorView sums = Tensor(DType::kF64, {shapes_.ffn()});
    Bytes("weight norm forward", 2 * v.bytes() + weight.bytes(), [&] {
      ShardedRowNorms({}, MatrixCut::kNone, NormAxis::kOutput)
          .Forward(context_, v, units, sums, norms, weight);
    });
    Clear();
  }

 private:
  void Run(const GpuProduct& product) { Matmul(context_, product.args); }

  void Product(const std::string& name, const GpuProduct& product) {
    const TensorView& a = product.args.a;
    const int64_t k = product.args.transpose_a ? a.dim(0) : a.dim(1);
    Flops(name, 2.0 * static_cast<double>(product.args.out.size() * k), [&] { Run(product); });
  }

  TensorView Attended(int64_t length, int64_t width) {
    const int64_t batch = shapes_.rows / length;
    return width == 1 ? Tensor(DType::kF32, {batch, shapes_.heads, length})
                      : Tensor(DType::kBf16, {batch, length, shapes_.heads, width});
  }

  void Attention(int64_t length) {
    const int64_t batch = shapes_.rows / length;
    const int64_t width = shapes_.head_width();
    const TensorView qkv = Tensor(DType::kBf16, {batch, length, 3, shapes_.heads, width});
    const TensorView dqkv = Tensor(DType::kBf16, {batch, length, 3, shapes_.heads, width});
    const TensorView out = Attended(length, width);
    const TensorView lse = Attended(length, 1);
    const TensorView entropy = Attended(length, 1);
    const TensorView gradient = Attended(length, 1);
    const TensorView temperature = Tensor(DType::kF32, {shapes_.heads, length}, /*positive=*/true);
    const TensorView dtemperature = Tensor(DType::kF32, {shapes_.heads, length});
    const std::string at = ", T " + std::to_string(length);
    // Two products of T(T+1)/2 × D forward, five backward.
    const double product = 1.0 * static_cast<double>(batch * shapes_.heads * width) *
                           static_cast<double>(length * (length + 1));
    const auto forward = [&](const std::string& name, const TensorView& t) {
      Flops(name + at, 2.0 * product, [&] {
        AttentionForward(
            context_, {.qkv = qkv, .temperature = t, .out = out, .lse = lse, .entropy = entropy});
      });
    };
    const auto backward = [&](const std::string& name, const TensorView& entropy_gradient,
                              const TensorView& t, const TensorView& dt) {
      Flops(name + at, 5.0 * product, [&] {
        AttentionBackward(context_, {.qkv = qkv,
                                     .temperature = t,
                                     .out = out,
                                     .dout = out,
                                     .lse = lse,
                                     .entropy = entropy,
                                     .entropy_gradient = entropy_gradient,
                                     .dqkv = dqkv,
                                     .dtemperature = dt});
      });
    };
    forward("attention forward", {});
    backward("attention backward", {}, {}, {});
    backward("  with entropy gradient", gradient, {}, {});
    forward("attention forward, temperatures", temperature);
    backward("  backward, entropy, temperatures", gradient, temperature, dtemperature);
    if (length == shapes_.lengths.back()) {
      Bytes("rotary, a quarter of the dims", qkv.bytes() / 3,
            [&] { Rotary(context_, {.qkv = qkv, .rotary_dims = width / 4}); });
    }
    Clear();
  }

  void CudnnAttention(int64_t length, EntropyGradientKind kind) {
    const std::string name = absl::StrCat(
        "cuDNN's backward", kind == EntropyGradientKind::kNone ? "" : ", entropy", ", T ", length);
    if (name.find(filter_) == std::string::npos) return;
    const AttentionWork work = {.batch = shapes_.rows / length,
                                .positions = length,
                                .heads = shapes_.heads,
                                .width = shapes_.head_width(),
                                .dtype = DType::kBf16,
                                .entropy_gradient = kind};
    const auto times = TimeAttentionBackward(context_, work, {}, MemoryOf(context_).free);
    if (!times.ok()) {
      std::printf("%-36s left out: %s\n", name.c_str(), times.status().ToString().c_str());
      return;
    }
    const double product = 1.0 * static_cast<double>(work.batch * work.heads * work.width) *
                           static_cast<double>(length * (length + 1));
    Line(name, times->cudnn_ms / 1e3, 5.0 * product, limits_.bf16_flops, "TFLOP/s", 1e12);
    Line(name + ": ours", times->entrain_ms / 1e3, 5.0 * product, limits_.bf16_flops, "TFLOP/s",
         1e12);
  }

  void Embeddings(const TensorView& x) {
    const int64_t length = shapes_.lengths.back();
    const TensorView tokens = operands_.Tokens(shapes_.vocab, {shapes_.rows / length, length});
    const TensorView wte = Tensor(DType::kBf16, {shapes_.vocab, shapes_.width});
    const TensorView wpe = Tensor(DType::kBf16, {length, shapes_.width});
    const TensorView dwte = Tensor(DType::kF32, {shapes_.vocab, shapes_.width});
    const TensorView dwpe = Tensor(DType::kF32, {length, shapes_.width});
    Bytes("embedding forward", x.bytes() + x.bytes() / 2, [&] {
      EmbeddingForward(context_, {.tokens = tokens, .wte = wte, .wpe = wpe, .out = x});
    });
    Bytes("embedding backward", 3 * x.bytes(), [&] {
      EmbeddingBackward(context_, {.tokens = tokens, .dout = x, .dwte = dwte, .dwpe = dwpe});
    });
  }

  TensorView Tensor(DType dtype, std::initializer_list<int64_t> dims, bool positive = false) {
    return operands_.Tensor(dtype, dims, positive);
  }

  void Clear() {
    Synchronize(context_);
    products_.clear();
    operands_.Clear();
  }

  // ---- lines ----

  void Flops(const std::string& name, double flops, const std::function<void()>& op) {
    Line(name, flops, limits_.bf16_flops, "TFLOP/s", 1e12, op);
  }
  void Bytes(const std::string& name, int64_t bytes, const std::function<void()>& op) {
    Line(name, static_cast<double>(bytes), limits_.bytes, "GB/s", 1e9, op);
  }
  void Line(const std::string& name, double work, double limit, const char* unit, double scale,
            const std::function<void()>& op) {
    if (name.find(filter_) == std::string::npos) return;
    Line(name, timer_.Seconds(op), work, limit, unit, scale);
  }
  void Line(const std::string& name, double seconds, double work, double limit, const char* unit,
            double scale) {
    const double rate = work / seconds;
    std::printf("%-36s %10.4f %10.1f %-8s ", name.c_str(), seconds * 1e3, rate / scale, unit);
    if (limit > 0.0) {
      std::printf("%5.0f%%\n", 100.0 * rate / limit);
    } else {
      std::printf("%6s\n", "n/a");
    }
    std::fflush(stdout);
    nlohmann::ordered_json result = {{"kind", "kernel"},
                                     {"name", name},
                                     {"seconds", seconds},
                                     {"rate", rate / scale},
                                     {"unit", unit}};
    if (limit > 0.0) result["share"] = rate / limit;
    results_.Add(result);
  }

  Context& context_;
  GpuShapes shapes_;
  std::string filter_;
  const GpuResults& results_;
  GpuLimits limits_;
  GpuTimer timer_;
  GpuOperands operands_;
  std::vector<GpuProduct> products_;
};

}  // namespace

void KernelTable(Context& context, BenchSize size, bool products, const std::string& filter,
                 const GpuResults& results) {
  Table table(context, ShapesOf(size), filter, results);
  table.Header();
  if (products) table.Matmuls();
  table.Attention();
  // At small shapes a sanitizer may be watching, which is to see kernels of this project: in cuDNN's it reports races.
  if (size != BenchSize::kSmoke) table.CudnnAttention();
  table.RowKernels();
  table.FfnKernels();
  table.CrossEntropies();
  table.Updates();
  table.WeightNorms();
}

}  // namespace entrain
