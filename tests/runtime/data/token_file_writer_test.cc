#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/data/token_file.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_file_bytes.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> Names(const std::string& folder) {
  std::vector<std::string> names;
  const std::vector<DirEntry> entries = FileSystem::Posix().List(folder).value();
  for (const DirEntry& entry : entries) names.push_back(entry.name);
  return names;
}

TEST(TokenFileWriterTest, WritesAShardThatIsThereOnlyWhenFinished) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/a.bin";
  auto writer = TokenFileWriter::Create(FileSystem::Posix(), path);
  ASSERT_TRUE(writer.ok()) << writer.status();
  const std::vector<int32_t> tokens = CountingTokens<int32_t>(30000);
  ASSERT_TRUE((*writer)->Append(tokens.data(), 10000).ok());
  ASSERT_TRUE((*writer)->Append(tokens.data() + 10000, 0).ok());
  ASSERT_TRUE((*writer)->Append(tokens.data() + 10000, 20000).ok());
  EXPECT_EQ((*writer)->size(), 30000);
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE((*writer)->Finish().ok());
  EXPECT_EQ(Names(folder.path()), std::vector<std::string>{"a.bin"});
  EXPECT_EQ(ReadFile(path), LlmcBytes(CountingTokens<uint16_t>(30000)));
}

TEST(TokenFileWriterTest, AnEmptyShardIsAHeader) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/a.bin";
  ASSERT_TRUE((*TokenFileWriter::Create(FileSystem::Posix(), path))->Finish().ok());
  EXPECT_EQ(ReadFile(path), LlmcBytes(std::vector<uint16_t>{}));
}

TEST(TokenFileWriterTest, AnUnfinishedShardLeavesNothing) {
  const TemporaryFolder folder;
  {
    auto writer = TokenFileWriter::Create(FileSystem::Posix(), folder.path() + "/a.bin");
    const int32_t token = 1;
    ASSERT_TRUE((*writer)->Append(&token, 1).ok());
    EXPECT_FALSE(Names(folder.path()).empty());
  }
  EXPECT_TRUE(Names(folder.path()).empty());
}

TEST(TokenFileWriterTest, RefusesWhatSixteenBitsCannotHold) {
  const TemporaryFolder folder;
  auto writer = TokenFileWriter::Create(FileSystem::Posix(), folder.path() + "/a.bin");
  for (const int32_t token : {-1, 65536}) {
    const absl::Status status = (*writer)->Append(&token, 1);
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ(status.message(), folder.path() + "/a.bin: token " + std::to_string(token) +
                                    " does not fit the shard's 16 bits");
  }
  const absl::Status status = (*writer)->Append(nullptr, int64_t{1} << 31);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a shard holds at most 2147483647 tokens"));
}

TEST(TokenFileWriterTest, RefusesAFolderThatIsNotThere) {
  const TemporaryFolder folder;
  const auto writer = TokenFileWriter::Create(FileSystem::Posix(), folder.path() + "/no/a.bin");
  EXPECT_EQ(writer.status().code(), absl::StatusCode::kNotFound);
}

absl::Status WriteShard(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const auto writer, TokenFileWriter::Create(fs, path));
  const std::vector<int32_t> tokens = CountingTokens<int32_t>(5000);
  RETURN_IF_ERROR(writer->Append(tokens.data(), 5000));
  return writer->Finish();
}

// Number of file-system calls of a whole write.
int64_t CallsOfAWrite() {
  const TemporaryFolder folder;
  FaultyFileSystem fs(FileSystem::Posix(), folder.path() + "/scratch");
  EXPECT_TRUE(WriteShard(fs, folder.path() + "/a.bin").ok());
  return fs.calls();
}

TEST(TokenFileWriterTest, AnErrorAtAnyCallIsReportedAndLeavesNoPartialShard) {
  const int64_t calls = CallsOfAWrite();
  ASSERT_GT(calls, 8);
  for (int64_t call = 1; call <= calls; ++call) {
    const TemporaryFolder folder;
    FaultyFileSystem fs(FileSystem::Posix(), folder.path() + "/scratch");
    fs.FailAt(call, absl::ResourceExhaustedError("no space left"));
    const absl::Status status = WriteShard(fs, folder.path() + "/a.bin");
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << call;
    const std::string path = folder.path() + "/a.bin";
    if (!std::filesystem::exists(path)) continue;
    EXPECT_EQ(ReadFile(path), LlmcBytes(CountingTokens<uint16_t>(5000))) << call;
  }
}

TEST(TokenFileWriterTest, APowerCutAtAnyCallLeavesNoPartialShard) {
  const int64_t calls = CallsOfAWrite();
  for (int64_t call = 1; call <= calls; ++call) {
    for (const UnsyncedContents contents :
         {UnsyncedContents::kKept, UnsyncedContents::kHalf, UnsyncedContents::kLost}) {
      for (const UnsyncedNames names : {UnsyncedNames::kKept, UnsyncedNames::kLost}) {
        const TemporaryFolder folder;
        FaultyFileSystem fs(FileSystem::Posix(), folder.path() + "/scratch");
        fs.CrashAt(call);
        EXPECT_FALSE(WriteShard(fs, folder.path() + "/a.bin").ok());
        fs.LosePower(contents, names);
        const std::string path = folder.path() + "/a.bin";
        if (!std::filesystem::exists(path)) continue;
        EXPECT_EQ(ReadFile(path), LlmcBytes(CountingTokens<uint16_t>(5000))) << call;
      }
    }
  }
}

}  // namespace
}  // namespace entrain
