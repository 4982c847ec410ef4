// Every row of the variants table: gradients against central differences of the loss.
//
// fp32 losses of size 4 carry noise of about 1e-7, so single elements cannot be checked: each tensor is moved as a whole,
// along its gradient (where the slope is largest) and along a random direction. Two step sizes are combined so that the
// error of second order cancels (Richardson). Tolerance: 1 % of the slope along the gradient, which one lost term, sign or
// factor exceeds by far. A ReLU whose kink lies within a step breaks both the difference and Richardson's rule (up to 4 % of
// the slope were seen), so each hidden unit's bias is put where no row of the batch comes near zero.
#include <gtest/gtest.h>

#include <algorithm>
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

constexpr double kTolerance = 1e-2;

void SetRandom(ModelHarness& harness) {
  harness.Randomize(7);
  harness.RandomBatch(8);
}

// The middle of the widest gap among the inner half of `values`: some lie above it, some below, none near.
float WidestGap(std::vector<float> values) {
  std::sort(values.begin(), values.end());
  const auto quarter = static_cast<std::ptrdiff_t>(values.size() / 4);
  const auto widest =
      std::max_element(values.begin() + quarter, values.end() - quarter - 1,
                       [](const float& a, const float& b) { return (&a)[1] - a < (&b)[1] - b; });
  return 0.5F * (*widest + *(widest + 1));
}

// Biases of every layer's hidden units, by name, at which each unit is on for some rows of the whole batch and off for
// others, and far from its kink for all. Layer after layer, as each one's inputs depend on those before.
std::vector<std::pair<std::string, std::vector<float>>> BiasesAwayFromKinks(
    const ModelConfig& config) {
  ModelHarness whole(config, {});
  SetRandom(whole);
  std::vector<std::pair<std::string, std::vector<float>>> biases;
  for (int64_t l = 0; l < config.layers - config.ffn_pruned; ++l) {
    whole.Evaluate();
    const TensorView& hidden = whole.activations().blocks[static_cast<size_t>(l)].ffn.hidden;
    const std::string name = "transformer.h." + std::to_string(l) + ".mlp.c_fc.bias";
    std::vector<float> bias = whole.Value(name);
    for (int64_t unit = 0; unit < hidden.dim(1); ++unit) {
      std::vector<float> values;
      for (int64_t row = 0; row < hidden.rows(); ++row) {
        values.push_back(hidden.row<float>(row)[unit]);
      }
      bias[static_cast<size_t>(unit)] -= WidestGap(values);
    }
    whole.SetValue(name, bias);
    biases.emplace_back(name, bias);
  }
  return biases;
}

class GradientCheck {
 public:
  GradientCheck(const ModelConfig& config, const HarnessOptions& options)
      : harness_(config, options) {
    SetRandom(harness_);
    if (config.ffn == Ffn::kRelu) {
      for (const auto& [name, bias] : BiasesAwayFromKinks(config)) {
        harness_.SetValue(name, bias);
      }
    }
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
    std::vector<float> values(base.size());
    for (size_t i = 0; i < base.size(); ++i) {
      values[i] = static_cast<float>(base[i] + step * direction[i]);
    }
    harness_.SetValue(name, values);
    const double total = harness_.Evaluate().total;
    harness_.SetValue(name, base);
    return total;
  }

  double Slope(const std::string& name, const std::vector<float>& direction, double step) {
    const std::vector<float> base = harness_.Value(name);
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
    EXPECT_NEAR(along, norm, kTolerance * norm + 1e-6 / step) << name << " along its gradient";
    const std::vector<float> random = TrainedPart(name, RandomUnit(name, gradient.size()));
    EXPECT_NEAR(Slope(name, random, step), Dot(gradient, random), kTolerance * norm + 1e-6 / step)
        << name << " along a random direction";
  }

  ModelHarness harness_;
};

// The variant as it is checked: the penalty must be felt beside the loss, and a ReLU needs biases to keep its kinks away.
// previous_step has a test of its own: its gradient is not that of its value.
ModelConfig Checked(ModelConfig config) {
  if (config.ffn == Ffn::kRelu) config.ffn_bias = true;
  if (config.entropy_regularizer) {
    config.entropy_regularizer->strength = 2.0;
    config.entropy_regularizer->statistics = Statistics::kMicroStep;
  }
  return config;
}

class GradientCheckTest : public ::testing::TestWithParam<Variant> {};

TEST_P(GradientCheckTest, MatchesCentralDifferences) {
  GradientCheck(Checked(GetParam().config), {.step = 4}).Run();
}

TEST_P(GradientCheckTest, MatchesOverMicroSteps) {
  GradientCheck(Checked(GetParam().config), {.accumulation = 2, .step = 4}).Run();
}

INSTANTIATE_TEST_SUITE_P(All, GradientCheckTest, ::testing::ValuesIn(Variants()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace entrain
