#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/data/token_file.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_file_bytes.h"

namespace entrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TokenDatasetTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  void Write(const std::string& name, const std::vector<uint16_t>& tokens) const {
    WriteFile(Path(name), LlmcBytes(tokens));
  }
  absl::StatusOr<TokenDataset> Open(const std::string& name, int64_t sequence_length,
                                    int64_t vocab = 65536) {
    return TokenDataset::Open(FileSystem::Posix(), Path(name), TokenFormat::kAuto, sequence_length,
                              vocab);
  }
  std::vector<std::string> Expand(const std::string& name) {
    const auto files = ExpandPath(FileSystem::Posix(), Path(name));
    EXPECT_TRUE(files.ok()) << files.status();
    std::vector<std::string> names;
    for (const std::string& file : files.value_or(std::vector<std::string>())) {
      EXPECT_TRUE(file.starts_with(folder_.path() + "/")) << file;
      names.push_back(file.substr(folder_.path().size() + 1));
    }
    return names;
  }
  absl::Status ExpandStatus(const std::string& name) {
    return ExpandPath(FileSystem::Posix(), Path(name)).status();
  }

  TemporaryFolder folder_;
};

TEST_F(TokenDatasetTest, CutsAFileOfBTimesTPlusOneIntoBSequences) {
  Write("a.bin", CountingTokens<uint16_t>(4 * 5 + 1));
  const auto dataset = Open("a.bin", 5);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ(dataset->num_sequences(), 4);
  EXPECT_EQ(dataset->num_tokens(), 21);
  EXPECT_EQ(dataset->num_files(), 1);
  EXPECT_EQ(dataset->sequence_length(), 5);
  std::vector<int32_t> inputs(5);
  std::vector<int32_t> targets(5);
  ASSERT_TRUE(dataset->Read(0, inputs.data(), targets.data()).ok());
  EXPECT_THAT(inputs, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(targets, ElementsAre(1, 2, 3, 4, 5));
  ASSERT_TRUE(dataset->Read(3, inputs.data(), targets.data()).ok());
  EXPECT_THAT(inputs, ElementsAre(15, 16, 17, 18, 19));
  EXPECT_THAT(targets, ElementsAre(16, 17, 18, 19, 20));
  EXPECT_DEATH((void)dataset->Read(4, inputs.data(), targets.data()), "sequence 4 of 4");
}

TEST_F(TokenDatasetTest, NoSequenceCrossesFiles) {
  Write("b.bin", {10, 11, 12, 13, 14});
  Write("a.bin", {0, 1, 2, 3, 4, 5});
  Write("c.bin", {20, 21, 22});
  const auto dataset = Open("?.bin", 2);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ(dataset->num_sequences(), 2 + 2 + 1);
  EXPECT_EQ(dataset->num_tokens(), 14);
  EXPECT_EQ(dataset->num_files(), 3);
  std::vector<std::vector<int32_t>> read;
  for (int64_t i = 0; i < dataset->num_sequences(); ++i) {
    std::vector<int32_t> both(4);
    ASSERT_TRUE(dataset->Read(i, both.data(), both.data() + 2).ok());
    read.push_back(both);
  }
  EXPECT_THAT(read, ElementsAre(ElementsAre(0, 1, 1, 2), ElementsAre(2, 3, 3, 4),
                                ElementsAre(10, 11, 11, 12), ElementsAre(12, 13, 13, 14),
                                ElementsAre(20, 21, 21, 22)));
}

TEST_F(TokenDatasetTest, SequencesOfOneToken) {
  Write("a.bin", {7, 8, 9});
  const auto dataset = Open("a.bin", 1);
  ASSERT_TRUE(dataset.ok());
  EXPECT_EQ(dataset->num_sequences(), 2);
  int32_t input = 0;
  int32_t target = 0;
  ASSERT_TRUE(dataset->Read(1, &input, &target).ok());
  EXPECT_EQ(input, 8);
  EXPECT_EQ(target, 9);
}

TEST_F(TokenDatasetTest, RefusesAFileTooShortForOneSequence) {
  Write("a.bin", CountingTokens<uint16_t>(100));
  Write("b.bin", CountingTokens<uint16_t>(8));
  EXPECT_TRUE(Open("b.bin", 7).ok());
  const absl::Status status = Open("*.bin", 8).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            Path("b.bin") +
                ": too short for one sequence: 8 inputs and their targets take 9 tokens; the file "
                "has 8. Use a longer file or a shorter context");
}

TEST_F(TokenDatasetTest, ReadingRefusesATokenOutsideTheVocabulary) {
  Write("a.bin", {0, 1, 2, 3, 4, 500, 6, 7, 8});
  const auto dataset = Open("a.bin", 2, 256);
  ASSERT_TRUE(dataset.ok());
  int32_t inputs[2];
  int32_t targets[2];
  EXPECT_TRUE(dataset->Read(0, inputs, targets).ok());
  EXPECT_TRUE(dataset->Read(1, inputs, targets).ok());
  EXPECT_TRUE(dataset->Read(3, inputs, targets).ok());
  const std::string message =
      Path("a.bin") +
      ": token 500 at position 5 is not in the model's vocabulary of 256 (0 to 255): was the file "
      "made with another tokenizer?";
  const absl::Status among_inputs = dataset->Read(2, inputs, targets);
  EXPECT_EQ(among_inputs.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(among_inputs.message(), message);
  const auto last_target = Open("a.bin", 5, 256);
  ASSERT_TRUE(last_target.ok());
  int32_t long_inputs[5];
  int32_t long_targets[5];
  EXPECT_EQ(last_target->Read(0, long_inputs, long_targets).message(), message);
  EXPECT_TRUE(Open("a.bin", 2, 501)->Read(2, inputs, targets).ok());
  EXPECT_FALSE(Open("a.bin", 2, 500)->Read(2, inputs, targets).ok());
}

TEST_F(TokenDatasetTest, ChecksTheVocabularyOfAsManyTokensAsAsked) {
  std::vector<uint16_t> tokens(200000, 7);
  Write("a.bin", tokens);
  tokens.back() = 256;
  Write("b.bin", tokens);
  const auto dataset = Open("?.bin", 1000, 256);
  ASSERT_TRUE(dataset.ok());
  EXPECT_TRUE(dataset->CheckVocabulary(0).ok());
  EXPECT_TRUE(dataset->CheckVocabulary(399999).ok());
  const absl::Status status = dataset->CheckVocabulary(400000);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(status.message()), HasSubstr("b.bin: token 256 at position 199999"));
  EXPECT_FALSE(dataset->CheckVocabulary(int64_t{1} << 40).ok());
  EXPECT_TRUE(Open("?.bin", 1000, 257)->CheckVocabulary(int64_t{1} << 40).ok());
}

TEST_F(TokenDatasetTest, ANegativeTokenIsOutsideTheVocabulary) {
  MegatronParts parts;
  parts.dtype = 4;
  parts.lengths = {3};
  parts.offsets = {0};
  parts.documents = {0, 1};
  WriteFile(Path("m.idx"), parts.IndexBytes());
  WriteFile(Path("m.bin"), BytesOf(std::vector<int32_t>{1, -2, 3}));
  int32_t inputs[2];
  int32_t targets[2];
  EXPECT_THAT(std::string(Open("m", 2, 4000000000)->Read(0, inputs, targets).message()),
              HasSubstr("token -2 at position 1"));
}

TEST_F(TokenDatasetTest, TheFingerprintKnowsNamesSizesAndContents) {
  Write("a.bin", CountingTokens<uint16_t>(100));
  const std::string first = Open("a.bin", 4)->fingerprint();
  EXPECT_EQ(first.size(), 32);
  EXPECT_EQ(Open("a.bin", 9)->fingerprint(), first);
  std::filesystem::create_directory(Path("elsewhere"));
  std::filesystem::copy(Path("a.bin"), Path("elsewhere/a.bin"));
  EXPECT_EQ(Open("elsewhere", 4)->fingerprint(), first);
  std::filesystem::copy(Path("a.bin"), Path("b.bin"));
  EXPECT_NE(Open("b.bin", 4)->fingerprint(), first);
  Write("a.bin", CountingTokens<uint16_t>(101));
  EXPECT_NE(Open("a.bin", 4)->fingerprint(), first);
  for (const size_t changed : {size_t{0}, size_t{50}, size_t{99}}) {
    std::vector<uint16_t> tokens = CountingTokens<uint16_t>(100);
    tokens[changed] = 7777;
    Write("a.bin", tokens);
    EXPECT_NE(Open("a.bin", 4)->fingerprint(), first) << changed;
  }
}

TEST_F(TokenDatasetTest, ExpandsAFolderToItsTokenFilesInNameOrder) {
  for (const char* name :
       {"b.bin", "a.bin", "c.bin.tmp", "d.body.tmp", "index.json", "m.idx", "m.bin"}) {
    WriteFile(Path(name), "");
  }
  std::filesystem::create_directory(Path("sub.bin"));
  EXPECT_THAT(Expand(""), ElementsAre("a.bin", "b.bin", "m.bin"));
  WriteFile(Path("lonely.idx"), "");
  EXPECT_THAT(Expand(""), ElementsAre("a.bin", "b.bin", "lonely.idx", "m.bin"));
}

TEST_F(TokenDatasetTest, ExpandsGlobsInEveryComponent) {
  for (const char* folder : {"x1", "x2", "y1", "x3.tmp"}) {
    std::filesystem::create_directory(Path(folder));
    for (const char* name : {"t_1.bin", "t_0.bin", "v_0.bin", ".hidden.bin", "t_2.bin.tmp"}) {
      WriteFile(Path(std::string(folder) + "/" + name), "");
    }
  }
  EXPECT_THAT(Expand("x1/t_*.bin"), ElementsAre("x1/t_0.bin", "x1/t_1.bin"));
  EXPECT_THAT(Expand("x*/t_?.bin"),
              ElementsAre("x1/t_0.bin", "x1/t_1.bin", "x2/t_0.bin", "x2/t_1.bin"));
  EXPECT_THAT(Expand("[xy]1/v*"), ElementsAre("x1/v_0.bin", "y1/v_0.bin"));
  EXPECT_THAT(Expand("*/../x2/v*"), ::testing::SizeIs(3));
  WriteFile(Path("odd[1].bin"), "");
  EXPECT_THAT(Expand("odd[1].bin"), ElementsAre("odd[1].bin"));
}

TEST_F(TokenDatasetTest, ExpandsAGlobRelativeToTheWorkingFolder) {
  WriteFile(Path("r_0.bin"), "");
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder_.path());
  const auto files = ExpandPath(FileSystem::Posix(), "r_*.bin");
  std::filesystem::current_path(before);
  EXPECT_THAT(files.value(), ElementsAre("r_0.bin"));
}

TEST_F(TokenDatasetTest, AMegatronPairIsOneFileHoweverItIsNamed) {
  WriteFile(Path("m.idx"), "");
  WriteFile(Path("m.bin"), "");
  EXPECT_THAT(Expand("m.bin"), ElementsAre("m.bin"));
  EXPECT_THAT(Expand("m"), ElementsAre("m.idx"));
  EXPECT_THAT(Expand("m*"), ElementsAre("m.bin"));
  EXPECT_THAT(Expand("*.idx"), ElementsAre("m.idx"));
}

TEST_F(TokenDatasetTest, SaysWhenAPathMatchesNothing) {
  std::filesystem::create_directory(Path("empty"));
  EXPECT_EQ(ExpandStatus("none.bin").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ExpandStatus("none.bin").message(),
            "no such file or folder: '" + Path("none.bin") + "'");
  EXPECT_EQ(ExpandStatus("none/*.bin").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ExpandStatus("none/*.bin").message(), "no file matches '" + Path("none/*.bin") + "'");
  EXPECT_EQ(ExpandStatus("empty").code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(ExpandStatus("empty").message()),
              HasSubstr("empty: no token files in this folder"));
}

TEST_F(TokenDatasetTest, RefusesUnfinishedFiles) {
  std::filesystem::create_directory(Path("out.tmp"));
  WriteFile(Path("out.tmp/a.bin"), "");
  for (const char* name : {"out.tmp", "out.tmp/", "x.bin.tmp"}) {
    EXPECT_EQ(ExpandStatus(name).code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(ExpandStatus(name).message()),
                HasSubstr("is not finished: names that end in .tmp are never read"));
  }
}

TEST_F(TokenDatasetTest, RefusesAFolderOfTrainingAndValidationTogether) {
  WriteFile(Path("train_000000.bin"), "");
  EXPECT_THAT(Expand(""), ElementsAre("train_000000.bin"));
  WriteFile(Path("val_000000.bin"), "");
  EXPECT_EQ(ExpandStatus("").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ExpandStatus("").message()),
              HasSubstr("holds shards of both train_* and val_*; say which are meant: '"));
}

}  // namespace
}  // namespace entrain
