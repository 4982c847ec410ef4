#include "tests/support/golden_case.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/model_files.h"
#include "runtime/base/check.h"
#include "runtime/data/token_file.h"
#include "tests/support/test_data.h"

namespace entrain {
namespace {

std::string Root() { return TestDataFolder() + "/golden"; }

nlohmann::json ReadJson(const std::string& path) {
  const auto text = FileSystem::Posix().ReadText(path);
  CHECK(text.ok()) << text.status().ToString();
  return nlohmann::json::parse(*text);
}

void ReadTokens(GoldenCase& golden) {
  const int64_t positions = golden.config.context;
  auto dataset = TokenDataset::Open(FileSystem::Posix(), golden.folder + "/tokens.bin",
                                    TokenFormat::kLlmc, positions, golden.config.vocab);
  CHECK(dataset.ok()) << dataset.status().ToString();
  golden.batch = dataset->num_sequences();
  golden.inputs.resize(static_cast<size_t>(golden.batch * positions));
  golden.targets.resize(golden.inputs.size());
  for (int64_t b = 0; b < golden.batch; ++b) {
    CHECK(dataset->Read(b, &golden.inputs[b * positions], &golden.targets[b * positions]).ok());
  }
}

void ReadExpected(GoldenCase& golden) {
  const auto json = ReadJson(golden.folder + "/expected.json");
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
  golden.micro_batch = adamw.value("micro_batch", golden.batch);
  golden.recompute = adamw.value("recompute", false);
  for (const auto& step : adamw["steps"]) {
    golden.steps.push_back({step["loss"], step["penalty"], step["total"], step["grad_norm"]});
  }
  const auto gradient = json.value("gradient", json);
  golden.gradient_step = gradient.value("step", int64_t{0});
  golden.step_penalty = gradient["penalty"];
  golden.step_total = gradient["total"];
}

GoldenCase ReadCase(const std::string& name, const std::string& folder) {
  GoldenCase golden;
  golden.name = name;
  golden.folder = folder;
  auto config = ReadModelFolderConfig(FileSystem::Posix(), folder);
  CHECK(config.ok()) << config.status().ToString();
  golden.config = *config;
  ReadTokens(golden);
  ReadExpected(golden);
  auto gradients = SafetensorsFile::Open(FileSystem::Posix(), folder + "/gradients.safetensors");
  CHECK(gradients.ok()) << gradients.status().ToString();
  golden.gradients = std::make_shared<SafetensorsFile>(*std::move(gradients));
  return golden;
}

}  // namespace

double GoldenCase::Tolerance(const std::string& kind, const std::string& name, double fixed) const {
  const auto table = floor.find(kind);
  if (table == floor.end() || !table->second.contains(name)) return fixed;
  return std::max(fixed, 2.0 * table->second.at(name));
}

std::vector<std::string> GoldenNames() {
  const auto entries = FileSystem::Posix().List(Root());
  CHECK(entries.ok()) << entries.status().ToString();
  std::vector<std::string> names;
  for (const DirEntry& entry : *entries) {
    if (entry.is_directory) names.push_back(entry.name);
  }
  CHECK(!names.empty()) << "no golden cases in " << Root();
  return names;
}

GoldenCase LoadGolden(const std::string& name) {
  GoldenCase golden = ReadCase(name, Root() + "/" + name);
  const auto floors = ReadJson(TestDataFolder() + "/golden_floor.json");
  if (floors.contains(name)) floors[name].get_to(golden.floor);
  return golden;
}

GoldenCase LoadGoldenFolder(const std::string& folder) {
  GoldenCase golden = ReadCase(folder.substr(folder.rfind('/') + 1), folder);
  ReadJson(folder + "/floor.json").get_to(golden.floor);
  return golden;
}

}  // namespace entrain
