// What tests of entrain train under mpirun share: a small run, the command that starts it, and what it leaves behind.
#ifndef ENTRAIN_TESTS_SUPPORT_TRAIN_RANKS_H_
#define ENTRAIN_TESTS_SUPPORT_TRAIN_RANKS_H_

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/run_config.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {

class TrainRanksTest : public ::testing::Test {
 protected:
  TrainRanksTest() {
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    for (const Variant& variant : Variants()) {
      if (variant.name == "ereg") config_ = SmallRun(folder_.path(), variant.config);
    }
    config_.train.steps = 12;
    config_.logging.every = 1;
  }

  std::vector<std::string> Command(int ranks, const std::vector<std::string>& more) const {
    std::vector<std::string> command;
    if (ranks > 1) command = Mpirun(ranks, {"--bind-to", "none"});
    return With(std::move(command), more);
  }
  static std::vector<std::string> Mpirun(int ranks, const std::vector<std::string>& options) {
    const char* elsewhere = std::getenv("ENTRAIN_TEST_MPIRUN");  // of a bundle
    std::vector<std::string> command = {elsewhere != nullptr ? elsewhere : ENTRAIN_MPIRUN,
                                        "--oversubscribe", "-n", std::to_string(ranks)};
    command.insert(command.end(), options.begin(), options.end());
    return command;
  }
  // The training command, started by `launcher`.
  std::vector<std::string> With(std::vector<std::string> launcher,
                                const std::vector<std::string>& more) const {
    launcher.insert(launcher.end(), {ENTRAIN_BINARY, "train", "--config",
                                     WriteConfig(folder_.path(), "train.toml", config_)});
    launcher.insert(launcher.end(), more.begin(), more.end());
    return launcher;
  }
  ProcessResult Train(int ranks, const std::vector<std::string>& more = {}) const {
    return RunProcess(Command(ranks, more));
  }

  // Sets the sequences of a micro-step of all ranks together.
  void MicroStepOf(int64_t sequences, int ranks) { config_.train.micro_batch = sequences / ranks; }
  void RunIn(const std::string& name) { config_.run.dir = folder_.path() + "/" + name; }

  std::vector<nlohmann::json> Metrics() const {
    std::vector<nlohmann::json> records;
    std::ifstream file(config_.run.dir + "/metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      if (!file.eof()) records.push_back(nlohmann::json::parse(line));
    }
    return records;
  }
  nlohmann::json VerdictFile() const {
    std::ifstream file(config_.run.dir + "/verdict.json");
    return nlohmann::json::parse(file);
  }
  void WaitForStep(int64_t step) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (std::chrono::steady_clock::now() < deadline) {
      const auto records = Metrics();
      if (!records.empty() && records.back()["step"] >= step) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    FAIL() << "step " << step << " did not come";
  }

  TemporaryFolder folder_;
  TrainConfig config_;
};

// Processes whose parent is `parent`.
inline std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::vector<pid_t> children;
  const std::string pid = std::to_string(parent);
  std::ifstream file("/proc/" + pid + "/task/" + pid + "/children");
  for (pid_t child = 0; file >> child;) children.push_back(child);
  return children;
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_TRAIN_RANKS_H_
