#include "runtime/kernels/adamw.h"

#include <gtest/gtest.h>

#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

struct State {
  Doubles value, first, second;
};

struct Hyper {
  double lr = 1e-2, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1, scale = 0.5;
};

void ReferenceStep(const Hyper& hyper, const Doubles& gradients, int64_t step, bool decayed,
                   State& state) {
  for (size_t i = 0; i < gradients.size(); ++i) {
    const double g = gradients[i] * hyper.scale;
    state.first[i] = hyper.beta1 * state.first[i] + (1 - hyper.beta1) * g;
    state.second[i] = hyper.beta2 * state.second[i] + (1 - hyper.beta2) * g * g;
    const double first = state.first[i] / (1 - std::pow(hyper.beta1, step));
    const double second = state.second[i] / (1 - std::pow(hyper.beta2, step));
    const double decay = decayed ? hyper.weight_decay : 0.0;
    state.value[i] -= hyper.lr * (first / (std::sqrt(second) + hyper.eps) + decay * state.value[i]);
  }
}

TestTensor Gradient(int64_t size, int64_t step) {
  return TestTensor::Normal(DType::kF32, {size}, 100 + static_cast<uint64_t>(step), 1e-3);
}

// A parameter, and its state.
struct Trained {
  explicit Trained(int64_t size)
      : value(TestTensor::Normal(DType::kF32, {size}, 1)),
        first(TestTensor::F32({size})),
        second(TestTensor::F32({size})),
        gradient(TestTensor::F32({size})),
        copy(DType::kBf16, {size}) {}
  AdamWParameter views(bool decayed, bool copied) {
    return {.value = value.view(),
            .gradient = gradient.view(),
            .first_moment = first.view(),
            .second_moment = second.view(),
            .compute = copied ? copy.view() : TensorView(),
            .decayed = decayed};
  }
  TestTensor value, first, second, gradient, copy;
};

void Update(Context& context, const Hyper& hyper, int64_t step,
            const std::vector<AdamWParameter>& parameters) {
  const auto numbers = AdamWRate(hyper.lr, hyper.weight_decay, hyper.beta1, hyper.beta2, step);
  TestTensor rate = TestTensor::F32({3}), scale = TestTensor::F32({1});
  for (int64_t i = 0; i < 3; ++i) rate.Set(i, numbers[static_cast<size_t>(i)]);
  scale.Fill(hyper.scale);
  AdamW(context, {.parameters = parameters,
                  .beta1 = hyper.beta1,
                  .beta2 = hyper.beta2,
                  .eps = hyper.eps,
                  .rate = rate.view(),
                  .gradient_scale = scale.view()});
}

TEST(AdamWTest, FiveStepsOfTwoParameters) {
  const Hyper hyper;
  for (const int64_t size : {1, 31, 40001}) {
    const auto outputs = OnAnyThreads([&](Context& context) {
      Trained matrix(size), vector(7);
      for (int64_t step = 1; step <= 5; ++step) {
        matrix.gradient = Gradient(size, step);
        vector.gradient = Gradient(7, step);
        Update(context, hyper, step, {matrix.views(true, true), vector.views(false, false)});
      }
      return std::vector<TestTensor>{matrix.value, matrix.first, matrix.second, matrix.copy,
                                     vector.value};
    });
    State matrix = {TestTensor::Normal(DType::kF32, {size}, 1).values(), Doubles(size),
                    Doubles(size)};
    State vector = {TestTensor::Normal(DType::kF32, {7}, 1).values(), Doubles(7), Doubles(7)};
    for (int64_t step = 1; step <= 5; ++step) {
      ReferenceStep(hyper, Gradient(size, step).values(), step, true, matrix);
      ReferenceStep(hyper, Gradient(7, step).values(), step, false, vector);
    }
    EXPECT_LT(RelativeError(outputs[0].values(), matrix.value), 1e-6);
    EXPECT_LT(RelativeError(outputs[1].values(), matrix.first), 1e-6);
    EXPECT_LT(RelativeError(outputs[2].values(), matrix.second), 1e-6);
    EXPECT_LT(RelativeError(outputs[4].values(), vector.value), 1e-6);
    for (int64_t i = 0; i < size; ++i) {
      ASSERT_EQ(outputs[3].At(i), static_cast<float>(Bf16(static_cast<float>(outputs[0].At(i)))));
    }
  }
}

TEST(AdamWTest, ZeroGradientMovesNothing) {
  Trained trained(20);
  const std::vector<std::byte> before = trained.value.bytes();
  Update(*CpuContext(1), {.lr = 1.0}, 1, {trained.views(false, false)});
  EXPECT_EQ(trained.value.bytes(), before);
}

TEST(AdamWTest, AScaleThatIsNoNumberLeavesAllAsItIs) {
  Trained trained(20);
  trained.gradient = Gradient(20, 1);
  const std::vector<std::byte> before = trained.value.bytes();
  Update(*CpuContext(1), {.scale = NAN}, 1, {trained.views(true, true)});
  EXPECT_EQ(trained.value.bytes(), before);
  for (const double moment : trained.second.values()) EXPECT_EQ(moment, 0.0);
}

TEST(AdamWTest, AMinimumIsKeptAndNaNStays) {
  Trained trained(101);
  trained.value.Set(100, NAN);
  AdamWParameter parameter = trained.views(false, false);
  parameter.minimum = 0.001F;
  TestTensor before = trained.value;
  Update(*CpuContext(2), {}, 1, {parameter});
  for (int64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(trained.value.At(i), std::max(before.At(i), double{0.001F}));
  }
  EXPECT_TRUE(std::isnan(trained.value.At(100)));
}

TEST(AdamWDeathTest, StepsCountFromOne) {
  EXPECT_DEATH(AdamWRate(1e-3, 0.0, 0.9, 0.99, 0), "the first step is 1");
}

}  // namespace
}  // namespace entrain
