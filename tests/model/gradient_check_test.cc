// Every row of the variants table: gradients against central differences of the loss.
//
// fp32 losses of size 4 carry noise of about 1e-7, so single elements cannot be checked: each tensor is moved as a whole,
// along its gradient (where the slope is largest) and along a random direction. Two step sizes are combined so that the
// error of second order cancels (Richardson). Tolerance: 1 % of the slope along the gradient, which one lost term, sign or
// factor exceeds by far; 5 % with ReLU, whose kinks lie within a step.
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/base/philox.h"
#include "tests/support/model_harness.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

double Dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

std::vector<float> Scaled(std::vector<float> vector, double factor) {
  for (float& value : vector) value = static_cast<float>(value * factor);
  return vector;
}

std::vector<float> RandomUnit(const std::string& name, size_t size) {
  std::vector<float> direction(size);
  for (size_t i = 0; i < size; ++i) direction[i] = NormalAt(99, StreamOf(name), i);
  return Scaled(direction, 1.0 / std::sqrt(Dot(direction, direction)));
}

class GradientCheck {
 public:
  GradientCheck(const ModelConfig& config, const HarnessOptions& options)
      : harness_(config, options), tolerance_(config.ffn == Ffn::kRelu ? 5e-2 : 1e-2) {
    harness_.Randomize(7);
    harness_.RandomBatch(8);
    ConvergePowerIterations();
  }

  void Run() {
    harness_.Gradients();
    std::vector<std::pair<std::string, std::vector<float>>> gradients;
    for (const std::string& name : harness_.ParameterNames()) {
      gradients.emplace_back(name, harness_.Gradient(name));
    }
    for (const auto& [name, gradient] : gradients) Check(name, gradient);
  }

 private:
  // σ's gradient holds u and v constant, which is the true gradient once they have converged.
  void ConvergePowerIterations() {
    for (int i = 0; i < 3000; ++i)
      harness_.model().transformer().BeginStep(harness_.context(), true);
  }

  double TotalAt(const std::string& name, const std::vector<float>& base,
                 const std::vector<float>& direction, double step) {
    float* values = harness_.Value(name);
    for (size_t i = 0; i < base.size(); ++i) {
      values[i] = static_cast<float>(base[i] + step * direction[i]);
    }
    const double total = harness_.Evaluate().total;
    std::copy(base.begin(), base.end(), values);
    return total;
  }

  double Slope(const std::string& name, const std::vector<float>& direction, double step) {
    const std::vector<float> base(harness_.Value(name), harness_.Value(name) + direction.size());
    auto central = [&](double h) {
      return (TotalAt(name, base, direction, h) - TotalAt(name, base, direction, -h)) / (2.0 * h);
    };
    return (4.0 * central(step / 2.0) - central(step)) / 3.0;
  }

  // Parts of c_attn's bias that are switched off are not moved.
  std::vector<float> TrainedPart(const std::string& name, std::vector<float> direction) {
    if (name.find("c_attn.bias") == std::string::npos) return direction;
    const ModelConfig& config = harness_.model().config();
    const auto qk = direction.begin() + 2 * config.width;
    if (!config.qk_bias) std::fill(direction.begin(), qk, 0.0F);
    if (!config.vo_bias) std::fill(qk, direction.end(), 0.0F);
    return direction;
  }

  void Check(const std::string& name, const std::vector<float>& gradient) {
    const double norm = std::sqrt(Dot(gradient, gradient));
    // A gradient that is rounding noise, as of k's bias, to which a softmax is blind.
    if (norm < 2e-6) return;
    // Far enough that the loss moves well above its noise, near enough that it moves smoothly.
    const double step = std::min(0.02, 1e-3 / norm);
    const double along = Slope(name, Scaled(gradient, 1.0 / norm), step);
    EXPECT_NEAR(along, norm, tolerance_ * norm + 1e-6 / step) << name << " along its gradient";
    const std::vector<float> random = TrainedPart(name, RandomUnit(name, gradient.size()));
    EXPECT_NEAR(Slope(name, random, step), Dot(gradient, random), tolerance_ * norm + 1e-6 / step)
        << name << " along a random direction";
  }

  ModelHarness harness_;
  double tolerance_;
};

class GradientCheckTest : public ::testing::TestWithParam<Variant> {};

TEST_P(GradientCheckTest, MatchesCentralDifferences) {
  ModelConfig config = GetParam().config;
  // The penalty must be felt beside the loss. previous_step has a test of its own: its gradient is not that of its value.
  if (config.entropy_regularizer) {
    config.entropy_regularizer->strength = 2.0;
    config.entropy_regularizer->statistics = Statistics::kMicroStep;
  }
  GradientCheck(config, {.step = 4}).Run();
}

TEST_P(GradientCheckTest, MatchesOverMicroSteps) {
  ModelConfig config = GetParam().config;
  if (config.entropy_regularizer) {
    config.entropy_regularizer->strength = 2.0;
    config.entropy_regularizer->statistics = Statistics::kMicroStep;
  }
  GradientCheck(config, {.accumulation = 2, .step = 4}).Run();
}

INSTANTIATE_TEST_SUITE_P(All, GradientCheckTest, ::testing::ValuesIn(Variants()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace entrain
