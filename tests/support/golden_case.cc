#include "tests/support/golden_case.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/model_files.h"
#include "runtime/base/check.h"
#include "runtime/data/token_file.h"

namespace entrain {
namespace {

constexpr char kRoot[] = ENTRAIN_TEST_DATA_DIR "/golden";

void ReadTokens(GoldenCase& golden) {
  const int64_t positions = golden.config.context;
  auto dataset = TokenDataset::Open(FileSystem::Posix(), golden.folder + "/tokens.bin",
                                    TokenFormat::kLlmc, positions, golden.config.vocab);
  CHECK(dataset.ok()) << dataset.status().ToString();
  CHECK_EQ(dataset->num_sequences(), GoldenCase::kBatch);
  golden.inputs.resize(static_cast<size_t>(GoldenCase::kBatch * positions));
  golden.targets.resize(golden.inputs.size());
  for (int64_t b = 0; b < GoldenCase::kBatch; ++b) {
    CHECK(dataset->Read(b, &golden.inputs[b * positions], &golden.targets[b * positions]).ok());
  }
}

void ReadExpected(GoldenCase& golden) {
  const auto text = FileSystem::Posix().ReadText(golden.folder + "/expected.json");
  CHECK(text.ok()) << text.status().ToString();
  const auto json = nlohmann::json::parse(*text);
  golden.loss = json["loss"];
  golden.penalty = json["penalty"];
  golden.total = json["total"];
  golden.head_entropy = json["head_entropy"].get<std::vector<std::vector<double>>>();
  const auto& adamw = json["adamw"];
  golden.lr = adamw["lr"];
  golden.beta1 = adamw["beta1"];
  golden.beta2 = adamw["beta2"];
  golden.eps = adamw["eps"];
  golden.weight_decay = adamw["weight_decay"];
  golden.clip = adamw["clip"];
  for (const auto& step : adamw["steps"]) {
    golden.steps.push_back({step["loss"], step["penalty"], step["total"], step["grad_norm"]});
  }
}

void ReadFloor(GoldenCase& golden) {
  const auto text = FileSystem::Posix().ReadText(ENTRAIN_TEST_DATA_DIR "/golden_floor.json");
  CHECK(text.ok()) << text.status().ToString();
  const auto json = nlohmann::json::parse(*text);
  if (json.contains(golden.name)) json[golden.name].get_to(golden.floor);
}

}  // namespace

double GoldenCase::Tolerance(const std::string& kind, const std::string& name, double fixed) const {
  const auto table = floor.find(kind);
  if (table == floor.end() || !table->second.contains(name)) return fixed;
  return std::max(fixed, 2.0 * table->second.at(name));
}

std::vector<std::string> GoldenNames() {
  const auto entries = FileSystem::Posix().List(kRoot);
  CHECK(entries.ok()) << entries.status().ToString();
  std::vector<std::string> names;
  for (const DirEntry& entry : *entries) {
    if (entry.is_directory) names.push_back(entry.name);
  }
  CHECK(!names.empty()) << "no golden cases in " << kRoot;
  return names;
}

GoldenCase LoadGolden(const std::string& name) {
  GoldenCase golden;
  golden.name = name;
  golden.folder = std::string(kRoot) + "/" + name;
  auto config = ReadModelFolderConfig(FileSystem::Posix(), golden.folder);
  CHECK(config.ok()) << config.status().ToString();
  golden.config = *config;
  ReadTokens(golden);
  ReadExpected(golden);
  ReadFloor(golden);
  auto gradients =
      SafetensorsFile::Open(FileSystem::Posix(), golden.folder + "/gradients.safetensors");
  CHECK(gradients.ok()) << gradients.status().ToString();
  golden.gradients = std::make_shared<SafetensorsFile>(*std::move(gradients));
  return golden;
}

}  // namespace entrain
