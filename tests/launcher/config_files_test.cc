// Every file of configs/ is a whole configuration, and configs/reference.toml is the table of keys, written out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "launcher/train_config_keys.h"
#include "launcher/train_config_source.h"
#include "runtime/io/file_system.h"

namespace entrain {
namespace {

const char kConfigs[] = ENTRAIN_SOURCE_DIR "/configs";

std::vector<std::string> ConfigFiles() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kConfigs)) {
    if (entry.path().extension() == ".toml") {
      files.push_back(std::filesystem::relative(entry.path(), kConfigs));
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

TrainConfig Load(const std::string& file) {
  absl::StatusOr<TrainConfig> config = LoadTrainConfig(std::string(kConfigs) + "/" + file, {});
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *std::move(config) : TrainConfig{};
}

class ConfigFileTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ConfigFileTest, IsAWholeConfiguration) {
  const TrainConfig config = Load(GetParam());
  EXPECT_FALSE(config.run.dir.empty());
}

INSTANTIATE_TEST_SUITE_P(All, ConfigFileTest, ::testing::ValuesIn(ConfigFiles()),
                         [](const auto& info) {
                           return absl::StrJoin(std::vector<std::string>(absl::StrSplit(
                                                    info.param, absl::ByAnyChar("/.-"))),
                                                "_");
                         });

TEST(ConfigFilesTest, GiveEachRunAFolderOfItsOwn) {
  std::set<std::string> folders;
  for (const std::string& file : ConfigFiles()) folders.insert(Load(file).run.dir);
  EXPECT_EQ(folders.size(), ConfigFiles().size());
}

TEST(ModelConfigFilesTest, ThereIsOneForEachArchitectureAtTheSizeOf124M) {
  for (std::string name : PresetNames()) {
    if (name.ends_with("-ik")) name.back() = '6';
    const ModelConfig model = Load("models/" + name + ".toml").model;
    EXPECT_EQ(model.architecture, name);
    EXPECT_EQ(model.layers, 12) << name;
    EXPECT_EQ(model.heads, 12) << name;
    EXPECT_EQ(model.width, 768) << name;
    EXPECT_EQ(model.vocab, 50257) << name;
  }
}

TEST(RunConfigFilesTest, CodeparrotHasEgasHyperparameters) {
  const TrainConfig config = Load("runs/codeparrot-ereg.toml");
  EXPECT_EQ(config.model.context, 128);
  EXPECT_EQ(config.model.temperature_init, 1e-2);
  EXPECT_EQ(config.model.entropy_regularizer->strength, 0.164);
  EXPECT_EQ(config.model.entropy_regularizer->margin, 0.20);
  EXPECT_EQ(config.train.steps * config.train.global_batch * config.model.context, 2097152000);
  EXPECT_EQ(config.accumulation(1), 4);
  EXPECT_EQ(config.optimizer.lr, 1e-3);
  EXPECT_EQ(config.optimizer.warmup_steps, config.train.steps / 20);
  EXPECT_EQ(config.optimizer.schedule, Schedule::kLinear);
  EXPECT_EQ(config.optimizer.clip, 1.0);
}

TEST(RunConfigFilesTest, LanguiniHasItsOwn) {
  const TrainConfig config = Load("runs/languini-ereg.toml");
  EXPECT_EQ(config.model.context, 512);
  EXPECT_EQ(config.model.vocab, 16384);
  EXPECT_EQ(config.model.temperature_init, 1e-1);
  EXPECT_EQ(config.model.entropy_regularizer->strength, 0.82);
  EXPECT_EQ(config.train.steps, 18265);
  EXPECT_EQ(config.train.global_batch, 128);
  EXPECT_EQ(config.optimizer.lr, 6e-4);
  EXPECT_EQ(config.optimizer.min_lr, 6e-6);
  EXPECT_EQ(config.optimizer.beta2, 0.95);
  EXPECT_EQ(config.optimizer.weight_decay, 0.0);
  EXPECT_EQ(config.optimizer.clip, 0.0);
  EXPECT_EQ(config.optimizer.warmup_steps, 200);
  EXPECT_EQ(config.optimizer.schedule, Schedule::kCosine);
}

// --- reference.toml --------------------------------------------------------------------------------------------------

std::string ReferenceText() {
  return *FileSystem::Posix().ReadText(std::string(kConfigs) + "/reference.toml");
}

// The regulariser's table switched on: what follows "#" at once is a key, prose follows "# ".
std::string WithRegularizer(const std::string& text) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  for (std::string& line : lines) {
    if (line.starts_with("entropy_regularizer = ")) line.clear();
    if (line.size() > 1 && line[0] == '#' && line[1] != ' ') line.erase(0, 1);
  }
  return absl::StrJoin(lines, "\n");
}

void ExpectDefaults(const TrainConfig& config) {
  const TrainConfig defaults;
  for (const TrainConfigKey& key : TrainConfigKeys()) {
    if (key.required || key.key.name == kRegularizerKey) continue;
    EXPECT_EQ(ToText(key.key.get(config)), ToText(key.key.get(defaults))) << KeyTitle(key);
  }
}

TEST(ReferenceTest, ItsValuesAreTheDefaults) {
  const TrainConfig config = Load("reference.toml");
  EXPECT_FALSE(config.model.entropy_regularizer.has_value());
  ExpectDefaults(config);
}

TEST(ReferenceTest, ItsRegulariserHasTheDefaults) {
  const absl::StatusOr<TrainConfig> config =
      ParseTrainConfig(WithRegularizer(ReferenceText()), "reference.toml", {});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->model.entropy_regularizer.has_value());
  ExpectDefaults(*config);
}

TEST(ReferenceTest, EveryKeyIsWritten) {
  std::vector<Assignment> assignments;
  ASSERT_TRUE(ReadTomlText(ReferenceText(), "r", &assignments).ok());
  ASSERT_TRUE(ReadTomlText(WithRegularizer(ReferenceText()), "r", &assignments).ok());
  for (const TrainConfigKey& key : TrainConfigKeys()) {
    EXPECT_TRUE(std::any_of(assignments.begin(), assignments.end(),
                            [&](const Assignment& assignment) { return assignment.key == &key; }))
        << KeyTitle(key);
  }
}

}  // namespace
}  // namespace entrain
