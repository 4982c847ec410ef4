#include "runtime/data/byte_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <random>
#include <string>
#include <vector>

#include "tests/support/file_contents.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

std::string Compressed(const std::string& text) {
  std::string compressed(ZSTD_compressBound(text.size()), '\0');
  compressed.resize(
      ZSTD_compress(compressed.data(), compressed.size(), text.data(), text.size(), 3));
  return compressed;
}

// All of the source in pieces of `capacity`, or the error that it ends with.
absl::StatusOr<std::string> ReadAll(const std::string& path, int64_t capacity) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> source, OpenByteSource(path));
  std::string text;
  std::vector<char> buffer(static_cast<size_t>(capacity));
  for (;;) {
    ASSIGN_OR_RETURN(const int64_t count, source->Read(buffer.data(), capacity));
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(count));
  }
}

std::string SomeText(size_t size) {
  std::mt19937 random(1);
  std::string text;
  while (text.size() < size) text += "word" + std::to_string(random() % 1000) + "\n";
  return text;
}

TEST(ByteSourceTest, ReadsPlainAndCompressedFilesInAnyPieces) {
  const TemporaryFolder folder;
  const std::string text = SomeText(500000);
  WriteFile(folder.path() + "/a.txt", text);
  WriteFile(folder.path() + "/a.zst", Compressed(text));
  for (const int64_t capacity : {1000, 65536, 10000000}) {
    EXPECT_EQ(ReadAll(folder.path() + "/a.txt", capacity).value(), text);
    EXPECT_EQ(ReadAll(folder.path() + "/a.zst", capacity).value(), text);
  }
}

TEST(ByteSourceTest, SeveralFramesAndEmptyFilesAreFine) {
  const TemporaryFolder folder;
  WriteFile(folder.path() + "/two.zst", Compressed("one ") + Compressed("") + Compressed("two"));
  EXPECT_EQ(ReadAll(folder.path() + "/two.zst", 100).value(), "one two");
  WriteFile(folder.path() + "/empty.zst", "");
  EXPECT_EQ(ReadAll(folder.path() + "/empty.zst", 100).value(), "");
  WriteFile(folder.path() + "/empty.txt", "");
  EXPECT_EQ(ReadAll(folder.path() + "/empty.txt", 100).value(), "");
}

TEST(ByteSourceTest, EveryTruncationIsSaid) {
  const TemporaryFolder folder;
  const std::string compressed = Compressed(SomeText(3000));
  const std::string path = folder.path() + "/cut.zst";
  for (size_t size = 1; size < compressed.size(); size += 7) {
    WriteFile(path, compressed.substr(0, size));
    const auto text = ReadAll(path, 1000);
    ASSERT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << size;
    EXPECT_EQ(text.status().message(),
              path + ": the zstd stream ends in the middle: the file was cut after " +
                  std::to_string(size) + " bytes");
  }
}

TEST(ByteSourceTest, DamageIsSaid) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/bad.zst";
  WriteFile(path, "this is no zstd");
  EXPECT_EQ(ReadAll(path, 1000).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ReadAll(path, 1000).status().message()),
              HasSubstr("bad.zst: not a sound zstd stream near byte 15: Unknown frame descriptor"));
}

TEST(ByteSourceTest, MissingFilesAndFoldersAreRefused) {
  const TemporaryFolder folder;
  EXPECT_EQ(OpenByteSource(folder.path() + "/none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(OpenByteSource(folder.path() + "/none").status().message()),
              HasSubstr("cannot open '" + folder.path() + "/none'"));
  EXPECT_EQ(OpenByteSource(folder.path()).status().message(),
            "cannot read '" + folder.path() + "': it is a folder");
}

}  // namespace
}  // namespace entrain
