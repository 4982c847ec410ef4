#include "tests/support/golden_checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/model_harness.h"
#include "tests/support/run_config.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

struct Tolerances {
  double loss;      // relative
  double entropy;   // absolute
  double gradient;  // relative L2 of a tensor
};

Tolerances TolerancesOf(DType compute) {
  if (compute == DType::kF32) return {1e-6, 1e-6, 2e-5};
  return {1e-2, 2e-2, 3e-2};
}

// The case's model and batch, ready for the training step that its gradients are of.
std::unique_ptr<ModelHarness> Load(const GoldenCase& golden, DType compute) {
  const HarnessOptions options{.compute = compute,
                               .threads = 2,
                               .batch = golden.batch,
                               .recompute = golden.recompute,
                               .accumulation = golden.batch / golden.micro_batch,
                               .step = golden.gradient_step};
  auto harness = std::make_unique<ModelHarness>(golden.config, options);
  harness->LoadFolder(golden.folder);
  harness->SetBatch(golden.inputs, golden.targets);
  if (harness->model().regularizer() != nullptr) {
    harness->Evaluate();
    harness->KeepMeans();
  }
  return harness;
}

std::vector<float> FloatsOf(const TensorEntry& entry) {
  std::vector<float> values(entry.data.size() / sizeof(float));
  std::memcpy(values.data(), entry.data.data(), entry.data.size());
  return values;
}

TrainConfig TenSteps(const GoldenCase& golden, const std::string& folder, Precision precision) {
  TrainConfig config;
  config.run.dir = folder + "/run";
  config.init_from = golden.folder;
  config.model = golden.config;
  config.data.train = golden.folder + "/tokens.bin";
  config.data.shuffle = false;
  config.train.steps = 10;
  config.train.global_batch = golden.batch;
  config.train.micro_batch = golden.micro_batch;
  config.train.recompute = golden.recompute;
  config.train.precision = precision;
  config.optimizer = {.lr = golden.lr,
                      .beta1 = golden.beta1,
                      .beta2 = golden.beta2,
                      .eps = golden.eps,
                      .weight_decay = golden.weight_decay,
                      .clip = golden.clip,
                      .schedule = Schedule::kConstant,
                      .min_lr = golden.lr};
  config.checkpoint.every = 0;
  config.logging.every = 1;
  return config;
}

std::vector<nlohmann::json> Train(const GoldenCase& golden, Precision precision) {
  TemporaryFolder folder;
  const std::string path =
      WriteConfig(folder.path(), "train.toml", TenSteps(golden, folder.path(), precision));
  const ProcessResult result = RunEntrain({"train", "--config", path});
  EXPECT_EQ(result.code, 0) << result.error;
  const auto text = FileSystem::Posix().ReadText(folder.path() + "/run/metrics.jsonl");
  EXPECT_TRUE(text.ok()) << text.status().ToString();
  std::vector<nlohmann::json> records;
  std::istringstream lines(text.ok() ? *text : "");
  for (std::string line; std::getline(lines, line);) {
    records.push_back(nlohmann::json::parse(line));
  }
  return records;
}

}  // namespace

void ExpectGoldenLosses(const GoldenCase& golden, DType compute) {
  const Tolerances fixed = TolerancesOf(compute);
  const auto tolerance = [&](const std::string& name, double least) {
    return golden.Tolerance("losses_" + std::string(kDTypeNames.Name(compute)), name, least);
  };
  const auto harness = Load(golden, compute);
  const Losses losses = harness->Evaluate();
  EXPECT_NEAR(losses.loss, golden.loss, tolerance("loss", fixed.loss) * golden.loss);
  EXPECT_NEAR(losses.penalty, golden.step_penalty, tolerance("penalty", fixed.entropy));
  EXPECT_NEAR(losses.total, golden.step_total, tolerance("total", fixed.loss) * golden.step_total);
  for (int64_t l = 0; l < golden.config.layers; ++l) {
    for (int64_t h = 0; h < golden.config.heads; ++h) {
      EXPECT_NEAR(harness->statistics().Mean(l, h), golden.head_entropy[l][h],
                  tolerance("entropy", fixed.entropy))
          << "layer " << l << " head " << h;
    }
  }
}

void ExpectGoldenGradients(const GoldenCase& golden, DType compute) {
  const auto harness = Load(golden, compute);
  harness->Gradients();
  const std::string kind(kDTypeNames.Name(compute));
  const bool cuda = harness->context().device() == DeviceKind::kCuda;
  const auto tolerance = [&](const std::string& name) {
    const double fixed = TolerancesOf(compute).gradient;
    const double any = golden.Tolerance(kind, name, fixed);
    return cuda ? std::max(any, golden.Tolerance(kind + "_cuda", name, fixed)) : any;
  };
  int compared = 0;
  for (const TensorEntry& entry : golden.gradients->tensors()) {
    const std::vector<float> expected = FloatsOf(entry);
    if (!harness->model().params().Find(entry.name).valid()) {
      // A switched-off bias: no parameter, no gradient.
      EXPECT_EQ(RelativeL2(expected, std::vector<float>(expected.size())), 0.0) << entry.name;
      continue;
    }
    EXPECT_LE(RelativeL2(harness->Gradient(entry.name), expected), tolerance(entry.name))
        << entry.name;
    ++compared;
  }
  EXPECT_EQ(compared, static_cast<int>(harness->ParameterNames().size()));
}

void ExpectGoldenEval(const GoldenCase& golden, int64_t batch) {
  const ProcessResult result =
      RunEntrain({"eval", "--model", golden.folder, "--tokens", golden.folder + "/tokens.bin",
                  "--batch", std::to_string(batch), "--json"});
  ASSERT_EQ(result.code, 0) << result.error;
  const auto tolerance = [&](const std::string& name) {
    return golden.Tolerance("eval", name, 1e-6);
  };
  const auto json = nlohmann::json::parse(result.output);
  EXPECT_NEAR(json["loss"], golden.loss, tolerance("loss") * golden.loss);
  EXPECT_NEAR(json["perplexity"], std::exp(golden.loss),
              10.0 * tolerance("loss") * std::exp(golden.loss));
  EXPECT_NEAR(json["penalty"], golden.penalty, tolerance("penalty"));
  EXPECT_NEAR(json["total"], golden.total, tolerance("total") * golden.total);
  EXPECT_EQ(json["tokens"], golden.batch * golden.config.context);
  for (size_t l = 0; l < golden.head_entropy.size(); ++l) {
    for (size_t h = 0; h < golden.head_entropy[l].size(); ++h) {
      EXPECT_NEAR(json["head_entropy"][l][h], golden.head_entropy[l][h], tolerance("entropy"));
    }
  }
}

void ExpectGoldenSteps(const GoldenCase& golden, Precision precision) {
  const bool fp32 = precision == Precision::kFp32;
  const std::vector<nlohmann::json> records = Train(golden, precision);
  ASSERT_EQ(records.size(), golden.steps.size());
  for (size_t i = 0; i < records.size(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i + 1));
    const GoldenStep& want = golden.steps[i];
    const double tolerance =
        golden.Tolerance(fp32 ? "adamw" : "adamw_bf16", std::to_string(i + 1), fp32 ? 1e-4 : 1e-2);
    // A loss that has all but vanished is the difference of logits: its error is theirs.
    EXPECT_NEAR(records[i]["loss"], want.loss, tolerance * std::max(1e-2, want.loss));
    if (!fp32) continue;
    EXPECT_NEAR(records[i]["penalty"], want.penalty, tolerance * std::max(1.0, want.penalty));
    EXPECT_NEAR(records[i]["total"], want.total, tolerance * std::max(1e-2, want.total));
  }
  if (!fp32) return;
  EXPECT_NEAR(records[0]["grad_norm"], golden.steps[0].grad_norm,
              golden.Tolerance("adamw", "grad_norm", 1e-5) * golden.steps[0].grad_norm);
}

}  // namespace entrain
