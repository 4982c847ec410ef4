// A golden case: a small model, one batch, and what float64 with automatic differentiation made of it. Those of tests/data, and
// folders of the same layout that tests/interop/random_cases.py makes.
#ifndef ENTRAIN_TESTS_SUPPORT_GOLDEN_CASE_H_
#define ENTRAIN_TESTS_SUPPORT_GOLDEN_CASE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/model_config.h"
#include "runtime/io/safetensors.h"

namespace entrain {

struct GoldenStep {
  double loss;
  double penalty;
  double total;
  double grad_norm;
};

struct GoldenCase {
  std::string name;
  std::string folder;
  ModelConfig config;
  int64_t batch = 0;
  int64_t micro_batch = 0;       // sequences a micro-step of the gradients and the ten steps
  bool recompute = false;        // in the ten steps
  std::vector<int32_t> inputs;   // [batch, T]
  std::vector<int32_t> targets;  // [batch, T]
  double loss = 0.0;
  double penalty = 0.0;
  double total = 0.0;
  std::vector<std::vector<double>> head_entropy;  // [L][H]
  double lr = 0.0;
  double beta1 = 0.0;
  double beta2 = 0.0;
  double eps = 0.0;
  double weight_decay = 0.0;
  double clip = 0.0;
  std::vector<GoldenStep> steps;
  // Gradients are of the total of training step `gradient_step`, which is cut into micro-steps and has this penalty and total;
  // with statistics = previous_step, the one before had the same entropies.
  std::shared_ptr<SafetensorsFile> gradients;
  int64_t gradient_step = 0;
  double step_penalty = 0.0;
  double step_total = 0.0;
  // How far inputs' rounding alone moves a number, by kind ("f32", "bf16": tensors; "losses_f32", "losses_bf16", "eval":
  // "loss", "penalty", "total", "entropy"; "adamw": steps "1" .. "10", "grad_norm"), and how far a GPU's fp32 arithmetic does
  // ("f32_cuda"); measured by tests/interop. Ill-conditioned numbers only.
  std::map<std::string, std::map<std::string, double>> floor;

  // The tolerance of a number: the fixed one, or twice its floor where that is more.
  double Tolerance(const std::string& kind, const std::string& name, double fixed) const;
};

// The names of all cases, and one of them; a missing file ends the test program.
std::vector<std::string> GoldenNames();
GoldenCase LoadGolden(const std::string& name);

// A case anywhere, whose floors lie in its own folder.
GoldenCase LoadGoldenFolder(const std::string& folder);

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_GOLDEN_CASE_H_
