#include "launcher/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using nlohmann::json;
using ::testing::MatchesRegex;

TEST(VerdictTest, SaysHowARunEnded) {
  const json record = json::parse(ToJson({.code = ExitCode::kResubmit,
                                          .reason = "SIGUSR1",
                                          .step = 120,
                                          .last_commit = 120,
                                          .checkpoint = "runs/a/checkpoints/step_00000120"}));
  EXPECT_EQ(record["code"], 75);
  EXPECT_EQ(record["verdict"], "resubmit");
  EXPECT_EQ(record["reason"], "SIGUSR1");
  EXPECT_EQ(record["step"], 120);
  EXPECT_EQ(record["last_commit"], 120);
  EXPECT_EQ(record["checkpoint"], "runs/a/checkpoints/step_00000120");
  EXPECT_EQ(record["version"], ENTRAIN_VERSION);
  EXPECT_EQ(record["pid"], getpid());
  EXPECT_NE(record["host"], "");
  EXPECT_THAT(record["time"].get<std::string>(),
              MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"));
}

TEST(VerdictTest, WithoutACheckpointItsFieldsAreNull) {
  const json record = json::parse(ToJson({.code = ExitCode::kBadConfig, .reason = "no"}));
  EXPECT_EQ(record["code"], 78);
  EXPECT_TRUE(record["last_commit"].is_null());
  EXPECT_TRUE(record["checkpoint"].is_null());
}

TEST(VerdictTest, CodesAreThoseThatScriptsKnow) {
  EXPECT_EQ(static_cast<int>(ExitCode::kFinished), 0);
  EXPECT_EQ(static_cast<int>(ExitCode::kFailed), 1);
  EXPECT_EQ(static_cast<int>(ExitCode::kUsage), 2);
  EXPECT_EQ(static_cast<int>(ExitCode::kResubmit), 75);
  EXPECT_EQ(static_cast<int>(ExitCode::kBadConfig), 78);
}

TEST(VerdictTest, AReasonMayHaveAnyBytes) {
  const std::string text = ToJson({.code = ExitCode::kFailed, .reason = "no file '\xff\"\n'"});
  EXPECT_EQ(json::parse(text)["reason"], "no file '\xEF\xBF\xBD\"\n'");
}

TEST(VerdictTest, IsWrittenIntoTheRunFolder) {
  const TemporaryFolder folder;
  FileSystem& fs = FileSystem::Posix();
  ASSERT_TRUE(WriteVerdict(fs, folder.path(), {.reason = "first"}).ok());
  ASSERT_TRUE(WriteVerdict(fs, folder.path(), {.reason = "second"}).ok());
  EXPECT_EQ(json::parse(*fs.ReadText(folder.path() + "/verdict.json"))["reason"], "second");
  EXPECT_EQ(fs.List(folder.path())->size(), 1U);
}

TEST(VerdictTest, AFolderThatIsNotThereIsAnError) {
  EXPECT_EQ(WriteVerdict(FileSystem::Posix(), "/no/such/folder", {}).code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace entrain
