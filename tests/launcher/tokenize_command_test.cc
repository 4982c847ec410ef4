#include "launcher/tokenize_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "tests/support/file_contents.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

// Runs the subcommand with `arguments`, in this process.
absl::Status Tokenize(const std::string& arguments) {
  CLI::App app;
  std::function<absl::Status()> selected;
  AddTokenizeCommand(app, &selected);
  app.parse("tokenize " + arguments);
  return selected();
}

constexpr char kPycode[] = ENTRAIN_SOURCE_DIR "/configs/demo/pycode-small.jsonl";

TEST(TokenizeCommandTest, MakesShardsOfTheShippedText) {
  const TemporaryFolder folder;
  const std::string out = folder.path() + "/out";
  const absl::Status status = Tokenize(std::string("--input ") + kPycode + " --output " + out +
                                       " --split-field split --threads 2");
  ASSERT_TRUE(status.ok()) << status;
  const auto index = nlohmann::json::parse(ReadFile(out + "/index.json"));
  EXPECT_EQ(index["splits"]["train"]["documents"], 79);
  EXPECT_EQ(index["splits"]["val"]["documents"], 13);
  // All of the text's tokens, and an end-of-text for each document.
  EXPECT_EQ(index["splits"]["train"]["tokens"].get<int64_t>() +
                index["splits"]["val"]["tokens"].get<int64_t>(),
            535552 + 92);
  EXPECT_EQ(index["vocab"], 50257);
}

TEST(TokenizeCommandTest, RefusesBadOptions) {
  const TemporaryFolder folder;
  const std::string io = std::string("--input ") + kPycode + " --output " + folder.path() + "/out ";
  EXPECT_EQ(Tokenize(io + "--split-field split --validation-fraction 0.1").message(),
            "--split-field and --validation-fraction exclude each other: give one of them");
  EXPECT_EQ(Tokenize(io + "--extension py").message(),
            "--extension 'py' must begin with a dot and go on after it, as in .py");
  EXPECT_EQ(Tokenize(io + "--tokenizer no-such").code(), absl::StatusCode::kNotFound);
  EXPECT_THROW((void)Tokenize(io + "--validation-fraction 1.5"), CLI::ParseError);
  EXPECT_THROW((void)Tokenize(io + "--shard-tokens 0"), CLI::ParseError);
  EXPECT_THROW((void)Tokenize(io + "--threads 0"), CLI::ParseError);
  EXPECT_THROW((void)Tokenize("--output x"), CLI::ParseError);
  EXPECT_THROW((void)Tokenize("--input x"), CLI::ParseError);
}

TEST(TokenizeCommandTest, HelpNamesEveryOption) {
  CLI::App app;
  std::function<absl::Status()> selected;
  AddTokenizeCommand(app, &selected);
  const std::string help = app.get_subcommand("tokenize")->help();
  for (const char* option :
       {"--input", "--output", "--tokenizer", "--text-field", "--split-field",
        "--validation-fraction", "--shard-tokens", "--extension", "--threads", "--overwrite"}) {
    EXPECT_THAT(help, HasSubstr(option));
  }
}

TEST(TokenizeCommandTest, AKilledRunLeavesNothingThatIsRead) {
  const TemporaryFolder folder;
  const std::string out = folder.path() + "/out";
  // The same text several times over, for something to interrupt.
  for (int i = 0; i < 20; ++i) {
    std::filesystem::copy(kPycode, folder.path() + "/" + std::to_string(i) + ".jsonl");
  }
  const std::string arguments =
      "--input " + folder.path() + " --output " + out + " --shard-tokens 100000";
  for (const int milliseconds : {1, 60, 250}) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      execl(ENTRAIN_BINARY, "entrain", "tokenize", "--input", folder.path().c_str(), "--output",
            out.c_str(), "--shard-tokens", "100000", nullptr);
      _exit(127);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    if (std::filesystem::exists(out)) {
      // It was done before the signal came: then it is complete.
      EXPECT_TRUE(std::filesystem::exists(out + "/index.json"));
      std::filesystem::remove_all(out);
    }
  }
  ASSERT_TRUE(Tokenize(arguments).ok());
  const auto index = nlohmann::json::parse(ReadFile(out + "/index.json"));
  EXPECT_EQ(index["splits"]["train"]["tokens"], 20 * (535552 + 92));
  EXPECT_FALSE(std::filesystem::exists(out + ".tmp"));
}

}  // namespace
}  // namespace entrain
