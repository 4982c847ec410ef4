// ModelHarness: a model with one batch, for tests that look at losses and gradients.
#ifndef ENTRAIN_TESTS_SUPPORT_MODEL_HARNESS_H_
#define ENTRAIN_TESTS_SUPPORT_MODEL_HARNESS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"

namespace entrain {

struct HarnessOptions {
  DType compute = DType::kF32;
  int threads = 1;
  int64_t batch = 4;
  bool recompute = false;
  int64_t accumulation = 1;  // micro-steps that the batch is cut into
  int64_t step = 0;          // for the regulariser's ramp
};

struct Losses {
  double loss = 0.0;
  double penalty = 0.0;
  double total = 0.0;
};

class ModelHarness {
 public:
  ModelHarness(const ModelConfig& config, const HarnessOptions& options);

  // Values of trained size: matrices N(0, 0.2²), the rest around where it starts, all a function of the seed.
  void Randomize(uint64_t seed);
  void LoadFolder(const std::string& folder);
  void SetBatch(const std::vector<int32_t>& inputs, const std::vector<int32_t>& targets);
  // Tokens drawn from the seed.
  void RandomBatch(uint64_t seed);

  // Forward only; the regulariser's penalty as in training.
  Losses Evaluate();
  // Forward and backward of the whole batch, in `accumulation` micro-steps.
  Losses Gradients();

  // The last run's mean entropies become the previous step's.
  void KeepMeans();

  std::vector<float> Gradient(const std::string& name) const;
  std::vector<std::string> ParameterNames() const;
  std::vector<float> Value(const std::string& name) const;
  void SetValue(const std::string& name, const std::vector<float>& values);
  int64_t Size(const std::string& name) const;
  // After values were written: bf16 copies.
  void Refresh() { model_->params().RefreshCompute(*context_); }
  // Row entropies of the last micro-step, [L, B, H, T].
  std::vector<float> Entropies() const;
  const EntropyStatistics& statistics() const { return statistics_; }
  // What the last micro-step left behind.
  const Activations& activations() const { return activations_; }

  Model& model() { return *model_; }
  Context& context() { return *context_; }

 private:
  Losses Run(bool gradients);
  Transformer::Tokens MicroTokens(int64_t micro_step);

  HarnessOptions options_;
  std::unique_ptr<Context> context_;
  std::unique_ptr<Model> model_;
  Arena arena_;
  Activations activations_;
  EntropyStatistics statistics_;
  std::vector<int32_t> inputs_;
  std::vector<int32_t> targets_;
};

// ‖a − b‖/‖b‖; ‖a‖ when b is zero.
double RelativeL2(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_MODEL_HARNESS_H_
