// What tests of a user's mistakes share: a small run to make them on, and what a refusal must look like.
#ifndef ENTRAIN_TESTS_SUPPORT_BAD_INPUT_H_
#define ENTRAIN_TESTS_SUPPORT_BAD_INPUT_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "parallel/checkpoint.h"
#include "tests/support/run_config.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {

inline constexpr int kUsage = 2;
inline constexpr int kBadConfig = 78;
inline constexpr int kFailed = 1;

inline ModelConfig SmallEreg() {
  for (const Variant& variant : Variants()) {
    if (variant.name == "ereg") return variant.config;
  }
  return {};
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

class BadInputTest : public ::testing::Test {
 protected:
  BadInputTest() {
    config_ = SmallRun(folder(), SmallEreg());
    config_.train.steps = 4;
    config_.checkpoint.every = 2;
    path_ = WriteConfig(folder(), "train.toml", config_);
  }

  const std::string& folder() const { return folder_.path(); }
  std::string run() const { return config_.run.dir; }
  std::string checkpoint() const { return run() + "/checkpoints/" + CheckpointName(4); }

  void TrainOnce() {
    const ProcessResult result = RunEntrain({"train", "--config", path_});
    ASSERT_EQ(result.code, 0) << result.error;
  }

  static void Expect(const ProcessResult& result, int code, const std::vector<std::string>& parts) {
    EXPECT_EQ(result.code, code) << result.error << result.output;
    for (const std::string& part : parts) {
      EXPECT_NE(result.error.find(part), std::string::npos)
          << "missing: " << part << "\nin: " << result.error;
    }
    EXPECT_TRUE(result.error.starts_with("entrain: ")) << result.error;
    EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.error;
  }

  ProcessResult Train(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"train", "--config", path_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunEntrain(arguments);
  }
  ProcessResult Set(const std::string& override_text) const {
    return Train({"--set", override_text});
  }
  ProcessResult Eval(const std::string& model, const std::string& tokens) const {
    return RunEntrain({"eval", "--model", model, "--tokens", tokens});
  }

  TemporaryFolder folder_;
  TrainConfig config_;
  std::string path_;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_BAD_INPUT_H_
