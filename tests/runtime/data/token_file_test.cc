#include "runtime/data/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/faulty_file_system.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_file_bytes.h"

namespace entrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TokenFileTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string Write(const std::string& name, const std::string& bytes) const {
    WriteFile(Path(name), bytes);
    return Path(name);
  }
  std::vector<int32_t> ReadAll(const std::string& path, TokenFormat format) {
    auto file = OpenTokenFile(fs_, path, format);
    EXPECT_TRUE(file.ok()) << file.status();
    if (!file.ok()) return {};
    std::vector<int32_t> tokens(static_cast<size_t>((*file)->size()));
    (*file)->Read(0, (*file)->size(), tokens.data());
    return tokens;
  }
  void ExpectRefused(const std::string& path, TokenFormat format, absl::StatusCode code,
                     const std::string& message) {
    const auto file = OpenTokenFile(fs_, path, format);
    EXPECT_EQ(file.status().code(), code) << file.status();
    EXPECT_THAT(std::string(file.status().message()), HasSubstr(path));
    EXPECT_THAT(std::string(file.status().message()), HasSubstr(message));
  }

  FileSystem& fs_ = FileSystem::Posix();
  TemporaryFolder folder_;
};

TEST_F(TokenFileTest, ReadsBothVersionsOfLlmc) {
  const std::string narrow = Write("a.bin", LlmcBytes(std::vector<uint16_t>{1, 65535, 3}));
  const std::string wide = Write("b.bin", LlmcBytes(std::vector<uint32_t>{1, 100000, 3}));
  for (const TokenFormat format : {TokenFormat::kAuto, TokenFormat::kLlmc}) {
    EXPECT_THAT(ReadAll(narrow, format), ElementsAre(1, 65535, 3));
    EXPECT_THAT(ReadAll(wide, format), ElementsAre(1, 100000, 3));
  }
  const std::string empty = Write("c.bin", LlmcBytes(std::vector<uint16_t>{}));
  EXPECT_THAT(ReadAll(empty, TokenFormat::kAuto), ElementsAre());
}

TEST_F(TokenFileTest, ReadsAnyStretch) {
  const std::string path = Write("a.bin", LlmcBytes(CountingTokens<uint16_t>(1000)));
  const auto file = OpenTokenFile(fs_, path, TokenFormat::kAuto);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ((*file)->path(), path);
  EXPECT_EQ((*file)->size(), 1000);
  std::vector<int32_t> three(3);
  (*file)->Read(997, 3, three.data());
  EXPECT_THAT(three, ElementsAre(997, 998, 999));
  (*file)->Read(1000, 0, nullptr);
  EXPECT_DEATH((*file)->Read(998, 3, three.data()), "CHECK|998");
}

TEST_F(TokenFileTest, PositionsPastFourGibibytesAreReached) {
  // A file with a hole: 2^31 - 1 tokens of 4 bytes take 8 GiB of length and hardly any disk.
  const std::string path = Path("large.bin");
  constexpr int64_t kTokens = 2147483647;
  Write("large.bin", LlmcBytes(20240801, 7, kTokens, ""));
  std::error_code error;
  std::filesystem::resize_file(path, 1024 + 4 * kTokens - 4, error);
  if (error) GTEST_SKIP() << "no sparse file of 8 GiB here: " << error.message();
  {
    std::ofstream file(path, std::ios::binary | std::ios::app);
    const int32_t last = 4242;
    file.write(reinterpret_cast<const char*>(&last), 4);
  }
  const auto file = OpenTokenFile(fs_, path, TokenFormat::kAuto);
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<int32_t> two(2);
  (*file)->Read(kTokens - 2, 2, two.data());
  EXPECT_THAT(two, ElementsAre(0, 4242));
}

TEST_F(TokenFileTest, NanogptOnlyByName) {
  const std::string path = Write("a.bin", BytesOf(std::vector<uint16_t>{5, 50256, 7}));
  EXPECT_THAT(ReadAll(path, TokenFormat::kNanogpt), ElementsAre(5, 50256, 7));
  ExpectRefused(path, TokenFormat::kAuto, absl::StatusCode::kInvalidArgument,
                "expected llm.c's magic number 20240520 or 20240801, or Megatron's .idx beside a "
                ".bin, and found neither in its 6 bytes. A headerless nanoGPT file must be asked "
                "for: format = \"nanogpt\"");
  ExpectRefused(Write("odd.bin", "abc"), TokenFormat::kNanogpt, absl::StatusCode::kInvalidArgument,
                "the file has an odd number of bytes, 3");
}

TEST_F(TokenFileTest, RefusesWhatIsMissingOrUnreadable) {
  for (const TokenFormat format : {TokenFormat::kAuto, TokenFormat::kLlmc, TokenFormat::kNanogpt}) {
    ExpectRefused(Path("none.bin"), format, absl::StatusCode::kNotFound, "No such file");
  }
  // Root may read every file, so the refusal comes from a file system that says so.
  FaultyFileSystem unreadable(fs_, Path("scratch"));
  unreadable.FailAt(1, absl::PermissionDeniedError("cannot open 'a.bin': Permission denied"));
  EXPECT_EQ(OpenTokenFile(unreadable, "a.bin", TokenFormat::kAuto).status(),
            absl::PermissionDeniedError("cannot open 'a.bin': Permission denied"));
}

TEST_F(TokenFileTest, RefusesALlmcHeaderThatDoesNotFit) {
  const std::string tokens = BytesOf(CountingTokens<uint16_t>(10));
  const TokenFormat llmc = TokenFormat::kLlmc;
  ExpectRefused(Write("magic.bin", LlmcBytes(12345, 1, 10, tokens)), llmc,
                absl::StatusCode::kInvalidArgument,
                "not an llm.c token file: expected the magic number 20240520 or 20240801, found "
                "12345");
  ExpectRefused(Write("v1.bin", LlmcBytes(20240520, 7, 10, tokens)), llmc,
                absl::StatusCode::kInvalidArgument,
                "with magic number 20240520: expected version 1, found 7");
  ExpectRefused(Write("v7.bin", LlmcBytes(20240801, 1, 5, tokens)), TokenFormat::kAuto,
                absl::StatusCode::kInvalidArgument,
                "with magic number 20240801: expected version 7, found 1");
  ExpectRefused(Write("cut.bin", LlmcBytes(20240520, 1, 11, tokens)), llmc,
                absl::StatusCode::kInvalidArgument,
                "its header tells of 11 tokens, which take 1046 bytes; the file has 1044: it was "
                "cut after it was written");
  ExpectRefused(Write("long.bin", LlmcBytes(20240520, 1, 9, tokens)), llmc,
                absl::StatusCode::kInvalidArgument, "the file has 1044: it was added to");
  ExpectRefused(Write("wide.bin", LlmcBytes(20240801, 7, 10, tokens)), llmc,
                absl::StatusCode::kInvalidArgument, "which take 1064 bytes; the file has 1044");
  ExpectRefused(Write("negative.bin", LlmcBytes(20240520, 1, -1, tokens)), llmc,
                absl::StatusCode::kInvalidArgument,
                "4294967295 tokens, which take 8589935614 bytes");
  ExpectRefused(Write("head.bin", LlmcBytes(20240520, 1, 0, "").substr(0, 1000)), llmc,
                absl::StatusCode::kInvalidArgument,
                "begins with a header of 1024 bytes; the file has 1000");
  ExpectRefused(Write("none.bin", ""), llmc, absl::StatusCode::kInvalidArgument, "the file has 0");
  ExpectRefused(Write("none.bin", ""), TokenFormat::kAuto, absl::StatusCode::kInvalidArgument,
                "found neither in its 0 bytes");
}

}  // namespace
}  // namespace entrain
