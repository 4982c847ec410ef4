#include "runtime/data/megatron_token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"
#include "tests/support/token_file_bytes.h"

namespace entrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class MegatronTokenFileTest : public ::testing::Test {
 protected:
  // Sequences {0, 1, 2}, {3}, {}, {4, 5} of one document and another, as Megatron's own tools write them.
  static MegatronParts Parts() {
    MegatronParts parts;
    parts.lengths = {3, 1, 0, 2};
    parts.offsets = {0, 6, 8, 8};
    parts.documents = {0, 2, 4};
    return parts;
  }

  std::string Write(const MegatronParts& parts, const std::string& data) const {
    WriteFile(folder_.path() + "/m.idx", parts.IndexBytes());
    WriteFile(folder_.path() + "/m.bin", data);
    return folder_.path() + "/m.bin";
  }

  std::vector<int32_t> ReadAll(const std::string& path,
                               TokenFormat format = TokenFormat::kMegatron) const {
    const auto file = OpenTokenFile(FileSystem::Posix(), path, format);
    EXPECT_TRUE(file.ok()) << file.status();
    if (!file.ok()) return {};
    std::vector<int32_t> tokens(static_cast<size_t>((*file)->size()));
    (*file)->Read(0, (*file)->size(), tokens.data());
    return tokens;
  }

  TemporaryFolder folder_;
};

TEST_F(MegatronTokenFileTest, ReadsSixteenBits) {
  const std::string path = Write(Parts(), BytesOf(CountingTokens<uint16_t>(6)));
  EXPECT_THAT(ReadAll(path), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(ReadAll(path, TokenFormat::kAuto), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(ReadAll(folder_.path() + "/m.idx", TokenFormat::kAuto),
              ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST_F(MegatronTokenFileTest, ReadsThirtyTwoBits) {
  MegatronParts parts = Parts();
  parts.dtype = 4;
  parts.offsets = {0, 12, 16, 16};
  const std::string path = Write(parts, BytesOf(std::vector<int32_t>{0, 1, 2, 70000, 4, -5}));
  EXPECT_THAT(ReadAll(path), ElementsAre(0, 1, 2, 70000, 4, -5));
}

TEST_F(MegatronTokenFileTest, PresentsSequencesInTheOrderOfTheIndex) {
  MegatronParts parts = Parts();
  parts.lengths = {2, 0, 3, 1};
  parts.offsets = {8, 12, 2, 0};
  const std::string path = Write(parts, BytesOf(CountingTokens<uint16_t>(6)));
  EXPECT_THAT(ReadAll(path), ElementsAre(4, 5, 1, 2, 3, 0));
  const auto file = OpenTokenFile(FileSystem::Posix(), path, TokenFormat::kAuto);
  const std::vector<int32_t> all = {4, 5, 1, 2, 3, 0};
  for (int64_t begin = 0; begin <= 6; ++begin) {
    for (int64_t count = 0; begin + count <= 6; ++count) {
      std::vector<int32_t> part(static_cast<size_t>(count));
      (*file)->Read(begin, count, part.data());
      EXPECT_EQ(part, std::vector<int32_t>(all.begin() + begin, all.begin() + begin + count));
    }
  }
}

TEST_F(MegatronTokenFileTest, AnEmptyPairHasNoTokens) {
  MegatronParts parts;
  parts.documents = {0};
  EXPECT_THAT(ReadAll(Write(parts, "")), ElementsAre());
}

TEST_F(MegatronTokenFileTest, ALlmcFileStaysOneEvenBesideAnIndex) {
  const std::string path = Write(Parts(), LlmcBytes(std::vector<uint16_t>{7, 8}));
  EXPECT_THAT(ReadAll(path, TokenFormat::kAuto), ElementsAre(7, 8));
}

struct BadPair {
  std::function<void(MegatronParts&)> change;
  absl::StatusCode code;
  const char* message;
};

TEST_F(MegatronTokenFileTest, RefusesAnIndexThatDoesNotFit) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const BadPair cases[] = {
      {[](MegatronParts& p) { p.magic[3] = '?'; }, invalid,
       "m.idx: not a Megatron index: expected a header of 34 bytes that begins with MMIDIDX; the "
       "file has 106 bytes"},
      {[](MegatronParts& p) { p.version = 2; }, invalid,
       "m.idx: Megatron index: expected version 1, found 2"},
      {[](MegatronParts& p) { p.dtype = 5; }, invalid,
       "expected dtype 8 (uint16) or 4 (int32), found 5"},
      {[](MegatronParts& p) { p.lengths.push_back(1); }, invalid,
       "its header tells of 5 sequences and 3 document indices, which take 34 + 12·5 + 8·3 bytes; "
       "the file has 110"},
      {[](MegatronParts& p) {
         p.documents = {0, 2, 3};
       },
       invalid, "its document indices must rise from 0 to the number of sequences, 4, and do not"},
      {[](MegatronParts& p) {
         p.documents = {1, 2, 4};
       },
       invalid, "must rise from 0"},
      {[](MegatronParts& p) {
         p.documents = {0, 3, 2, 4};
       },
       invalid, "must rise from 0"},
      {[](MegatronParts& p) { p.documents = {}; }, invalid, "must rise from 0"},
      {[](MegatronParts& p) { p.lengths[0] = -1; }, invalid,
       "m.idx: sequence 0 is said to have -1 tokens from byte 0 of "},
      {[](MegatronParts& p) { p.lengths[3] = 3; }, invalid,
       "sequence 3 is said to have 3 tokens from byte 8"},
      {[](MegatronParts& p) { p.offsets[1] = -2; }, invalid, "sequence 1 is said to have"},
      {[](MegatronParts& p) { p.offsets[1] = int64_t{1} << 62; }, invalid,
       "sequence 1 is said to have"},
      {[](MegatronParts& p) { p.lengths[3] = 1; }, invalid,
       "which has 12 bytes: the two files are not of one pair"},
  };
  for (const BadPair& bad : cases) {
    MegatronParts parts = Parts();
    bad.change(parts);
    const std::string path = Write(parts, BytesOf(CountingTokens<uint16_t>(6)));
    const auto file = OpenTokenFile(FileSystem::Posix(), path, TokenFormat::kAuto);
    EXPECT_EQ(file.status().code(), bad.code) << bad.message;
    EXPECT_THAT(std::string(file.status().message()), HasSubstr(bad.message));
  }
}

TEST_F(MegatronTokenFileTest, RefusesCountsThatWouldOverflow) {
  std::string index = Parts().IndexBytes();
  // 12·S wraps around to 48 = 12·4.
  const std::string count = BytesOf(uint64_t{0x4000000000000004});
  index.replace(18, 8, count);
  const std::string path = Write(Parts(), BytesOf(CountingTokens<uint16_t>(6)));
  WriteFile(folder_.path() + "/m.idx", index);
  EXPECT_EQ(OpenTokenFile(FileSystem::Posix(), path, TokenFormat::kAuto).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(MegatronTokenFileTest, EveryTruncationIsRefused) {
  const std::string path = Write(Parts(), BytesOf(CountingTokens<uint16_t>(6)));
  const std::string index = Parts().IndexBytes();
  for (size_t size = 0; size < index.size(); ++size) {
    WriteFile(folder_.path() + "/m.idx", index.substr(0, size));
    EXPECT_FALSE(OpenTokenFile(FileSystem::Posix(), path, TokenFormat::kAuto).ok()) << size;
  }
}

TEST_F(MegatronTokenFileTest, NamesAMissingHalf) {
  const std::string path = Write(Parts(), BytesOf(CountingTokens<uint16_t>(6)));
  std::filesystem::remove(path);
  const auto no_data =
      OpenTokenFile(FileSystem::Posix(), folder_.path() + "/m.idx", TokenFormat::kAuto);
  EXPECT_EQ(no_data.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(no_data.status().message()), HasSubstr("m.bin"));
  const auto no_index =
      OpenTokenFile(FileSystem::Posix(), folder_.path() + "/x.bin", TokenFormat::kMegatron);
  EXPECT_EQ(no_index.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(no_index.status().message()), HasSubstr("x.idx"));
  const auto no_name =
      OpenTokenFile(FileSystem::Posix(), folder_.path() + "/x.dat", TokenFormat::kMegatron);
  EXPECT_EQ(no_name.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(no_name.status().message()),
              HasSubstr("x.dat: a Megatron pair is named by its .bin or its .idx"));
}

}  // namespace
}  // namespace entrain
