#include "runtime/kernels/adamw.h"

#include <gtest/gtest.h>

#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

struct State {
  Doubles value, first, second;
};

void ReferenceStep(const AdamWArgs& args, const Doubles& gradients, int64_t step, State& state) {
  for (size_t i = 0; i < gradients.size(); ++i) {
    const double g = gradients[i] * args.gradient_scale;
    state.first[i] = args.beta1 * state.first[i] + (1 - args.beta1) * g;
    state.second[i] = args.beta2 * state.second[i] + (1 - args.beta2) * g * g;
    const double first = state.first[i] / (1 - std::pow(args.beta1, step));
    const double second = state.second[i] / (1 - std::pow(args.beta2, step));
    state.value[i] -=
        args.lr * (first / (std::sqrt(second) + args.eps) + args.weight_decay * state.value[i]);
  }
}

TestTensor Gradient(int64_t size, int64_t step) {
  return TestTensor::Normal(DType::kF32, {size}, 100 + static_cast<uint64_t>(step), 1e-3);
}

std::vector<TestTensor> Train(Context& context, int64_t size, AdamWArgs args, bool compute) {
  TestTensor value = TestTensor::Normal(DType::kF32, {size}, 1);
  TestTensor first = TestTensor::F32({size});
  TestTensor second = TestTensor::F32({size});
  TestTensor copy(DType::kBf16, {size});
  for (int64_t step = 1; step <= 5; ++step) {
    TestTensor gradient = Gradient(size, step);
    args.value = value.view();
    args.gradient = gradient.view();
    args.first_moment = first.view();
    args.second_moment = second.view();
    if (compute) args.compute = copy.view();
    args.step = step;
    AdamW(context, args);
  }
  return {value, first, second, copy};
}

TEST(AdamWTest, FiveSteps) {
  const AdamWArgs hyper = {.lr = 1e-2,
                           .beta1 = 0.9,
                           .beta2 = 0.95,
                           .eps = 1e-8,
                           .weight_decay = 0.1,
                           .gradient_scale = 0.5};
  for (const int64_t size : {1, 31, 40001}) {
    const auto outputs =
        OnAnyThreads([&](Context& context) { return Train(context, size, hyper, true); });
    State state = {TestTensor::Normal(DType::kF32, {size}, 1).values(), Doubles(size),
                   Doubles(size)};
    for (int64_t step = 1; step <= 5; ++step) {
      ReferenceStep(hyper, Gradient(size, step).values(), step, state);
    }
    EXPECT_LT(RelativeError(outputs[0].values(), state.value), 1e-6);
    EXPECT_LT(RelativeError(outputs[1].values(), state.first), 1e-6);
    EXPECT_LT(RelativeError(outputs[2].values(), state.second), 1e-6);
    for (int64_t i = 0; i < size; ++i) {
      ASSERT_EQ(outputs[3].At(i), static_cast<float>(Bf16(static_cast<float>(outputs[0].At(i)))));
    }
  }
}

TEST(AdamWTest, WithoutDecayOrCopy) {
  const AdamWArgs hyper = {.lr = 1e-3};
  const auto outputs =
      OnAnyThreads([&](Context& context) { return Train(context, 50, hyper, false); });
  State state = {TestTensor::Normal(DType::kF32, {50}, 1).values(), Doubles(50), Doubles(50)};
  for (int64_t step = 1; step <= 5; ++step) {
    ReferenceStep(hyper, Gradient(50, step).values(), step, state);
  }
  EXPECT_LT(RelativeError(outputs[0].values(), state.value), 1e-6);
}

TEST(AdamWTest, ZeroGradientMovesNothing) {
  TestTensor value = TestTensor::Normal(DType::kF32, {20}, 1);
  const std::vector<std::byte> before = value.bytes();
  TestTensor zero = TestTensor::F32({20});
  TestTensor first = TestTensor::F32({20});
  TestTensor second = TestTensor::F32({20});
  AdamW(*CpuContext(1), {.value = value.view(),
                         .gradient = zero.view(),
                         .first_moment = first.view(),
                         .second_moment = second.view(),
                         .lr = 1.0});
  EXPECT_EQ(value.bytes(), before);
}

TEST(AdamWDeathTest, StepsCountFromOne) {
  TestTensor x = TestTensor::F32({4});
  const auto context = CpuContext(1);
  EXPECT_DEATH(AdamW(*context, {.value = x.view(),
                                .gradient = x.view(),
                                .first_moment = x.view(),
                                .second_moment = x.view(),
                                .step = 0}),
               "the first step is 1");
}

TEST(ClampMinTest, KeepsLargerValuesAndNaN) {
  TestTensor value = TestTensor::Normal(DType::kF32, {101}, 1);
  TestTensor before = value;
  value.Set(100, NAN);
  ClampMin(*CpuContext(2), value.view(), 0.001F);
  for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(value.At(i), std::max(before.At(i), double{0.001F}));
  EXPECT_TRUE(std::isnan(value.At(100)));
}

}  // namespace
}  // namespace entrain
