// Runs that cannot be continued, and checkpoints that cannot be read, through the real program.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "runtime/io/manifest.h"
#include "tests/support/bad_input.h"

namespace entrain {
namespace {

using BadResumeTest = BadInputTest;

TEST_F(BadResumeTest, ResumeMustWithoutACheckpoint) {
  Expect(Train({"--resume", "must"}), kBadConfig, {"--resume must", "no checkpoint"});
}

TEST_F(BadResumeTest, ResumeMustWithNothingButDamage) {
  TrainOnce();
  for (const int64_t step : {2, 4}) {
    std::filesystem::resize_file(run() + "/checkpoints/" + CheckpointName(step) + "/state.json",
                                 10);
  }
  Expect(Train({"--resume", "must"}), kFailed,
         {checkpoint() + "/state.json", "has 10 bytes", "starts afresh"});
}

TEST_F(BadResumeTest, ResumeNeverOverACheckpoint) {
  TrainOnce();
  Expect(Train({"--resume", "never"}), kBadConfig, {"--resume never", "step_00000004", "run.dir"});
}

TEST_F(BadResumeTest, ResumeAStepThatIsNotThere) {
  TrainOnce();
  Expect(Train({"--resume", "3"}), kBadConfig, {"3"});
}

TEST_F(BadResumeTest, ResumeWithAnotherSeed) {
  TrainOnce();
  Expect(Set("train.seed=5"), kBadConfig, {"train.seed = 5", "1337", "run.dir"});
}

TEST_F(BadResumeTest, ResumeWithAnotherModel) {
  TrainOnce();
  Expect(Set("model.ffn_scaling=false"), kBadConfig, {"model.ffn_scaling = false", "true"});
}

TEST_F(BadResumeTest, ResumeOnOtherData) {
  TrainOnce();
  WriteTokens(folder() + "/tokens.bin", 391, 43, 77);
  Expect(Train({}), kBadConfig, {"data.train", "other tokens", "fingerprint"});
}

TEST_F(BadResumeTest, ResumeOnDataUnderAnotherName) {
  TrainOnce();
  const std::string other = folder() + "/other.bin";
  std::filesystem::copy_file(folder() + "/tokens.bin", other);
  Expect(Set("data.train=" + other), kBadConfig,
         {other, "files of other names", "fingerprint", "put the old files back"});
}

TEST_F(BadResumeTest, DamagedCheckpointIsNamedAndTheOlderOneTaken) {
  TrainOnce();
  const std::string shard = checkpoint() + "/shard_00000_of_00001.safetensors";
  std::string bytes = ReadFile(shard);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  WriteFile(shard, bytes);
  Expect(Train({"--resume", "must"}), kFailed,
         {"damaged", "shard_00000_of_00001", "--resume auto"});
  Expect(RunEntrain({"inspect", checkpoint()}), kFailed, {"shard_00000_of_00001"});
  const ProcessResult resumed = Train({});
  EXPECT_EQ(resumed.code, 0) << resumed.error;
  EXPECT_NE(resumed.output.find("passed over"), std::string::npos) << resumed.output;
  EXPECT_NE(resumed.output.find("step_00000002"), std::string::npos) << resumed.output;
}

TEST_F(BadResumeTest, CheckpointFromTheFuture) {
  TrainOnce();
  // What a later program would write: another version, under a checksum that holds.
  const std::string path = checkpoint() + "/manifest.json";
  nlohmann::json manifest = nlohmann::json::parse(ReadFile(path));
  manifest.erase("checksum");
  manifest["version"] = 9;
  manifest["written_by"] = "entrain 9.9";
  const std::string contents = manifest.dump();
  manifest["checksum"] = ChecksumOf(contents.data(), static_cast<int64_t>(contents.size()));
  WriteFile(path, manifest.dump(1) + "\n");
  Expect(RunEntrain({"inspect", checkpoint()}), kBadConfig,
         {"manifest.json", "entrain 9.9", "version 9"});
}

}  // namespace
}  // namespace entrain
