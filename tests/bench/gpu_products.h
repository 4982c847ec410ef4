// The matrix products of a training step of GPT-2, forward and backward, in bf16.
#ifndef ENTRAIN_TESTS_BENCH_GPU_PRODUCTS_H_
#define ENTRAIN_TESTS_BENCH_GPU_PRODUCTS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "runtime/kernels/matmul.h"
#include "tests/bench/gpu_operands.h"

namespace entrain {

// Of gpu_bench's kernels.
struct GpuShapes {
  int64_t rows = 65'536;
  int64_t heads = 12;
  int64_t width = 768;
  int64_t vocab = 50'257;
  int64_t padded_vocab = 50'304;
  int64_t logits_rows = 8'192;
  int64_t values = 124'475'904;  // parameters of the whole model
  std::vector<int64_t> lengths = {128, 256, 512, 1024};
  int repetitions = 20;
  int64_t flush_bytes = int64_t{256} << 20;

  int64_t head_width() const { return width / heads; }
  int64_t ffn() const { return 4 * width; }
};

struct GpuProduct {
  std::string name;
  MatmulArgs args;
};

class StepProducts {
 public:
  // The operands' memory stays theirs.
  StepProducts(GpuOperands& operands, const GpuShapes& shapes)
      : operands_(operands), shapes_(shapes) {
    Layer("qkv", shapes.width, 3 * shapes.width);
    Layer("attention out", shapes.width, shapes.width);
    Layer("ffn in", shapes.width, shapes.ffn());
    Layer("ffn out", shapes.ffn(), shapes.width);
    Fused();
    Head();
  }

  const std::vector<GpuProduct>& products() const { return products_; }

 private:
  // With an epilogue.
  void Fused() {
    const auto [rows, width] = std::pair(shapes_.rows, shapes_.width);
    const TensorView x = operands_.Tensor(DType::kBf16, {rows, width});
    const TensorView inner = operands_.Tensor(DType::kBf16, {rows, shapes_.ffn()});
    const TensorView aux = operands_.Tensor(DType::kBf16, {rows, shapes_.ffn()});
    const TensorView weight = operands_.Tensor(DType::kBf16, {width, shapes_.ffn()});
    const TensorView weight_out = operands_.Tensor(DType::kBf16, {shapes_.ffn(), width});
    products_.push_back({"ffn in forward, with gelu",
                         {.a = x,
                          .b = weight,
                          .out = inner,
                          .bias = operands_.Tensor(DType::kF32, {shapes_.ffn()}),
                          .epilogue = MatmulEpilogue::kGelu,
                          .aux = aux}});
    products_.push_back({"ffn out dX, with gelu's gradient",
                         {.a = x,
                          .b = weight_out,
                          .out = inner,
                          .transpose_b = true,
                          .epilogue = MatmulEpilogue::kGeluGradient,
                          .aux = aux}});
  }

  // out features of a matrix [in, out].
  void Layer(const std::string& name, int64_t in, int64_t out) {
    const TensorView x = operands_.Tensor(DType::kBf16, {shapes_.rows, in});
    const TensorView y = operands_.Tensor(DType::kBf16, {shapes_.rows, out});
    const TensorView weight = operands_.Tensor(DType::kBf16, {in, out});
    const TensorView dweight = operands_.Tensor(DType::kF32, {in, out});
    products_.push_back(
        {name + " forward",
         {.a = x, .b = weight, .out = y, .bias = operands_.Tensor(DType::kF32, {out})}});
    products_.push_back({name + " dX", {.a = y, .b = weight, .out = x, .transpose_b = true}});
    products_.push_back({name + " dW", {.a = x, .b = y, .out = dweight, .transpose_a = true}});
  }

  void Head() {
    const TensorView x = operands_.Tensor(DType::kBf16, {shapes_.logits_rows, shapes_.width});
    const TensorView wte = operands_.Tensor(DType::kBf16, {shapes_.padded_vocab, shapes_.width});
    const TensorView dwte = operands_.Tensor(DType::kF32, {shapes_.padded_vocab, shapes_.width});
    const TensorView logits =
        operands_.Tensor(DType::kF32, {shapes_.logits_rows, shapes_.padded_vocab});
    const TensorView dlogits(logits.raw(), DType::kBf16,
                             {shapes_.logits_rows, shapes_.padded_vocab}, 2 * shapes_.padded_vocab);
    products_.push_back({"head logits", {.a = x, .b = wte, .out = logits, .transpose_b = true}});
    const TensorView rounded(logits.raw(), DType::kBf16, {logits.dim(0), logits.dim(1)});
    products_.push_back(
        {"head logits, bf16", {.a = x, .b = wte, .out = rounded, .transpose_b = true}});
    products_.push_back({"head dX", {.a = dlogits, .b = wte, .out = x}});
    products_.push_back(
        {"head dW", {.a = dlogits, .b = x, .out = dwte, .transpose_a = true, .accumulate = true}});
  }

  GpuOperands& operands_;
  GpuShapes shapes_;
  std::vector<GpuProduct> products_;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_BENCH_GPU_PRODUCTS_H_
