#include "runtime/kernels/embedding.h"

#include <gtest/gtest.h>

#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

constexpr int64_t kBatch = 3;
constexpr int64_t kPositions = 5;
constexpr int64_t kVocab = 7;
constexpr int64_t kWidth = 137;

// Every token more than once, one never.
TestTensor Tokens() {
  TestTensor tokens(DType::kI32, {kBatch, kPositions});
  for (int64_t i = 0; i < tokens.size(); ++i) tokens.Set(i, static_cast<double>(i * i % 6));
  return tokens;
}

TEST(EmbeddingTest, Forward) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const bool positions : {false, true}) {
      const int64_t first = 2;
      const auto outputs = OnAnyThreads([&](Context& context) {
        TestTensor tokens = Tokens();
        TestTensor wte = TestTensor::Normal(dtype, {kVocab, kWidth}, 1);
        TestTensor wpe = TestTensor::Normal(dtype, {kPositions + first, kWidth}, 2);
        TestTensor out = TestTensor::F32({kBatch * kPositions, kWidth});
        EmbeddingForward(context, {.tokens = tokens.view(),
                                   .wte = wte.view(),
                                   .wpe = positions ? wpe.view() : TensorView(),
                                   .out = out.view(),
                                   .first_position = first});
        return std::vector{out};
      });
      const TestTensor tokens = Tokens();
      const TestTensor wte = TestTensor::Normal(dtype, {kVocab, kWidth}, 1);
      const TestTensor wpe = TestTensor::Normal(dtype, {kPositions + first, kWidth}, 2);
      for (int64_t row = 0; row < tokens.size(); ++row) {
        for (int64_t c = 0; c < kWidth; ++c) {
          const double token = wte.At(static_cast<int64_t>(tokens.At(row)) * kWidth + c);
          const double position = positions ? wpe.At((first + row % kPositions) * kWidth + c) : 0.0;
          ASSERT_EQ(outputs[0].At(row * kWidth + c), static_cast<float>(token + position));
        }
      }
    }
  }
}

TEST(EmbeddingTest, Backward) {
  for (const bool accumulate : {false, true}) {
    const auto outputs = OnAnyThreads([&](Context& context) {
      TestTensor tokens = Tokens();
      TestTensor dout = TestTensor::Normal(DType::kF32, {kBatch * kPositions, kWidth}, 3);
      TestTensor dwte = TestTensor::Normal(DType::kF32, {kVocab, kWidth}, 4);
      TestTensor dwpe = TestTensor::Normal(DType::kF32, {kPositions + 1, kWidth}, 5);
      EmbeddingBackward(context, {.tokens = tokens.view(),
                                  .dout = dout.view(),
                                  .dwte = dwte.view(),
                                  .dwpe = dwpe.view(),
                                  .accumulate = accumulate});
      return std::vector{dwte, dwpe};
    });
    const TestTensor tokens = Tokens();
    const TestTensor dout = TestTensor::Normal(DType::kF32, {kBatch * kPositions, kWidth}, 3);
    Doubles dwte = TestTensor::Normal(DType::kF32, {kVocab, kWidth}, 4).values();
    Doubles dwpe = TestTensor::Normal(DType::kF32, {kPositions + 1, kWidth}, 5).values();
    if (!accumulate) std::fill_n(dwpe.begin(), kPositions * kWidth, 0.0);
    for (int64_t i = 0; i < dout.size(); ++i) {
      const int64_t row = i / kWidth;
      dwte[static_cast<int64_t>(tokens.At(row)) * kWidth + i % kWidth] += dout.At(i);
      dwpe[row % kPositions * kWidth + i % kWidth] += dout.At(i);
    }
    EXPECT_LT(RelativeError(outputs[0].values(), dwte), 1e-6);
    EXPECT_LT(RelativeError(outputs[1].values(), dwpe), 1e-6);
  }
}

TEST(EmbeddingTest, BackwardWithoutPositions) {
  TestTensor tokens = Tokens();
  TestTensor dout = TestTensor::F32({kBatch * kPositions, kWidth});
  dout.Fill(1.0);
  TestTensor dwte = TestTensor::F32({kVocab, kWidth});
  EmbeddingBackward(*CpuContext(1),
                    {.tokens = tokens.view(), .dout = dout.view(), .dwte = dwte.view()});
  EXPECT_EQ(Dot(dwte.values(), Doubles(kVocab * kWidth, 1.0)), kBatch * kPositions * kWidth);
}

TEST(EmbeddingDeathTest, TooFewPositions) {
  TestTensor tokens = Tokens();
  TestTensor wte = TestTensor::F32({kVocab, kWidth});
  TestTensor out = TestTensor::F32({kBatch * kPositions, kWidth});
  const auto context = CpuContext(1);
  EXPECT_DEATH(EmbeddingForward(*context, {.tokens = tokens.view(),
                                           .wte = wte.view(),
                                           .wpe = wte.view(),
                                           .out = out.view(),
                                           .first_position = 3}),
               "positions of wpe");
}

}  // namespace
}  // namespace entrain
