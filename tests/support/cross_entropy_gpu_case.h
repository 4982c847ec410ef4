// Cross-entropy on the GPU and its twin on the CPU.
#ifndef ENTRAIN_TESTS_SUPPORT_CROSS_ENTROPY_GPU_CASE_H_
#define ENTRAIN_TESTS_SUPPORT_CROSS_ENTROPY_GPU_CASE_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "runtime/kernels/cross_entropy.h"
#include "tests/support/cross_entropy_case.h"
#include "tests/support/gpu_twin.h"

namespace entrain {

struct CrossEntropyCase {
  int64_t rows;
  int64_t vocab;
  int64_t width;
  double spread = 1.0;  // standard deviation of the logits
  double offset = 0.0;
  int64_t stride = 0;
  int64_t first_token = 0;
};

// Rows of fours and others, rows of one step of a block and of several, narrow and wide blocks.
inline constexpr CrossEntropyCase kCrossEntropyCases[] = {
    {.rows = 5, .vocab = 7, .width = 7},
    {.rows = 300, .vocab = 12, .width = 12},
    {.rows = 3, .vocab = 257, .width = 384, .spread = 4.0, .stride = 392},
    {.rows = 3, .vocab = 509, .width = 513, .spread = 4.0, .first_token = 1000},
    {.rows = 3, .vocab = 5003, .width = 5120, .spread = 10.0, .stride = 5124},
    {.rows = 2, .vocab = 17001, .width = 17024},
    {.rows = 2, .vocab = 17001, .width = 17001, .spread = 3.0},
    {.rows = 2, .vocab = 2048, .width = 2048, .offset = 300.0},
    {.rows = 2, .vocab = 1, .width = 16},
    {.rows = 1, .vocab = 3000, .width = 3000, .offset = -1e4}};

// Operands and results of the three steps.
struct CrossEntropyTwins {
  explicit CrossEntropyTwins(const CrossEntropyCase& c, DType dtype = DType::kF32)
      : logits(dtype, {c.rows, c.width}, c.stride),
        targets(DType::kI32, {c.rows}),
        max(DType::kF32, {c.rows}),
        sum(DType::kF64, {c.rows}),
        target(DType::kF64, {c.rows}),
        loss(DType::kF32, {c.rows}),
        vocab{c.first_token, c.vocab} {
    logits.Normal(1, c.spread, c.offset);
    targets.Set(
        [&](int64_t i) { return static_cast<double>(c.first_token + (i * 997 + 6) % c.vocab); });
    for (GpuTwin* output : {&max, &sum, &target, &loss}) output->Fill(NAN);
  }

  template <typename View>
  CrossEntropyArgs Args(View&& view, const TensorView& dlogits = {}, float scale = 1.0F) {
    return {.logits = view(logits),
            .targets = view(targets),
            .vocab = vocab,
            .max = view(max),
            .sum = view(sum),
            .target = view(target),
            .loss = view(loss),
            .dlogits = dlogits,
            .scale = scale};
  }
  template <typename View>
  void Statistics(Context& context, View&& view) {
    SoftmaxStatistics(context, Args(view).statistics());
  }
  template <typename View>
  void Loss(Context& context, View&& view, const TensorView& dlogits, float scale) {
    CrossEntropy(context, Args(view, dlogits, scale));
  }
  template <typename View>
  void Whole(Context& context, View&& view, const TensorView& dlogits, float scale) {
    WholeCrossEntropy(context, Args(view, dlogits, scale));
  }

  GpuTwin logits;
  GpuTwin targets;
  GpuTwin max;
  GpuTwin sum;
  GpuTwin target;
  GpuTwin loss;
  VocabRange vocab;
};

// The gradient that lies over the GPU's logits.
inline Doubles GpuGradient(const CrossEntropyTwins& operands, DType dtype) {
  std::vector<uint8_t> bytes = operands.logits.gpu.Bytes();
  const TensorView view = operands.logits.gpu.view();
  const TensorView on_host(bytes.data(), view.dtype(), {view.dim(0), view.dim(1)},
                           view.row_stride());
  return ValuesOf(GradientView(on_host, dtype));
}

// And nothing in the columns of padding.
inline void ExpectCpusGradient(CrossEntropyTwins& operands, const CrossEntropyCase& c,
                               DType dtype) {
  const Doubles gradient = GpuGradient(operands, dtype);
  EXPECT_LT(RelativeError(gradient, ValuesOf(GradientView(operands.logits.cpu.view(), dtype))),
            Tolerance(dtype));
  for (int64_t row = 0; row < c.rows; ++row) {
    for (int64_t i = c.vocab; i < c.width; ++i) ASSERT_EQ(gradient[row * c.width + i], 0.0);
  }
}

// A NaN or an infinity among the first row's logits: that row's loss and gradient are not finite, the second row's are, and
// padding's gradient is 0. A bf16 gradient.
inline void ExpectNonFiniteInFirstRow(const CrossEntropyTwins& operands) {
  const std::vector<float> loss = operands.loss.gpu.Get();
  EXPECT_FALSE(std::isfinite(loss[0]));
  EXPECT_TRUE(std::isfinite(loss[1]));
  const Doubles gradient = GpuGradient(operands, DType::kBf16);
  const auto width = static_cast<size_t>(operands.logits.gpu.view().dim(1));
  EXPECT_FALSE(std::isfinite(gradient[0]));
  EXPECT_TRUE(std::isfinite(gradient[width]));
  EXPECT_EQ(gradient[width - 1], 0.0);
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_CROSS_ENTROPY_GPU_CASE_H_
