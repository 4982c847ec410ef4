#include "runtime/data/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/data/byte_tokenizer.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_file_bytes.h"

namespace entrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

constexpr int32_t kEnd = 256;  // the byte tokenizer's end of text

class CorpusTest : public ::testing::Test {
 protected:
  CorpusTest() {
    options_.inputs = {Path("in")};
    options_.output = Path("out");
    std::filesystem::create_directory(Path("in"));
  }

  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  void Write(const std::string& name, const std::string& contents) const {
    WriteFile(Path("in/" + name), contents);
  }
  absl::StatusOr<CorpusSummary> Run(FileSystem& fs = FileSystem::Posix()) const {
    return WriteCorpus(fs, ByteTokenizer(), options_, [](const CorpusProgress&) {});
  }
  void ExpectRefused(absl::StatusCode code, const std::string& message) const {
    const absl::Status status = Run().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_FALSE(std::filesystem::exists(Path("out.tmp")));
  }
  // Tokens of the shards `prefix`*, each shard apart.
  std::vector<std::vector<int32_t>> Shards(const std::string& prefix) const {
    std::vector<std::vector<int32_t>> shards;
    const std::vector<std::string> paths =
        ExpandPath(FileSystem::Posix(), Path("out/" + prefix + "_*.bin"))
            .value_or(std::vector<std::string>());
    for (const std::string& path : paths) {
      const auto file = OpenTokenFile(FileSystem::Posix(), path, TokenFormat::kLlmc);
      EXPECT_TRUE(file.ok()) << file.status();
      shards.emplace_back(static_cast<size_t>((*file)->size()));
      (*file)->Read(0, (*file)->size(), shards.back().data());
    }
    return shards;
  }
  std::vector<std::string> Names(const std::string& name) const {
    std::vector<std::string> names;
    const std::vector<DirEntry> entries = FileSystem::Posix().List(Path(name)).value();
    for (const DirEntry& entry : entries) names.push_back(entry.name);
    return names;
  }

  TemporaryFolder folder_;
  CorpusOptions options_;
};

TEST_F(CorpusTest, WritesDocumentsInOrderEachAfterAnEndOfText) {
  Write("a.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"\"}\n");
  Write("b.txt", "c\xFF");
  const auto summary = Run();
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(Shards("train"), ElementsAre(ElementsAre(kEnd, 'a', 'b', kEnd, kEnd, 'c', 0xFF)));
  EXPECT_THAT(Names("out"), ElementsAre("index.json", "train_000000.bin"));
  EXPECT_FALSE(std::filesystem::exists(Path("out.tmp")));
  EXPECT_EQ(summary->splits[0].documents, 3);
  EXPECT_EQ(summary->splits[0].tokens, 7);
  EXPECT_EQ(summary->splits[1].tokens, 0);
  EXPECT_EQ(summary->text_bytes, 4);
  EXPECT_EQ(summary->num_files, 2);
}

TEST_F(CorpusTest, ShardsHaveTheSizeThatWasAskedFor) {
  options_.shard_tokens = 4;
  Write("a.txt", "abcdefghij");
  Write("b.txt", "");
  ASSERT_TRUE(Run().ok());
  EXPECT_THAT(Shards("train"),
              ElementsAre(ElementsAre(kEnd, 'a', 'b', 'c'), ElementsAre('d', 'e', 'f', 'g'),
                          ElementsAre('h', 'i', 'j', kEnd)));
  const Json index = Json::parse(ReadFile(Path("out/index.json")));
  EXPECT_EQ(index["tokenizer"], "byte");
  EXPECT_EQ(index["vocab"], 257);
  EXPECT_EQ(index["splits"]["train"]["documents"], 2);
  EXPECT_EQ(index["splits"]["train"]["tokens"], 12);
  EXPECT_EQ(index["splits"]["train"]["shards"][2],
            (Json{{"file", "train_000002.bin"}, {"tokens", 4}}));
  EXPECT_EQ(index["splits"]["val"]["shards"], Json::array());
}

TEST_F(CorpusTest, AFieldTellsTheSplit) {
  options_.encode.split_field = "split";
  Write("a.jsonl",
        "{\"text\": \"a\", \"split\": \"val\"}\n{\"text\": \"b\", \"split\": \"train\"}\n"
        "{\"text\": \"c\", \"split\": \"validation\"}\n");
  ASSERT_TRUE(Run().ok());
  EXPECT_THAT(Shards("train"), ElementsAre(ElementsAre(kEnd, 'b')));
  EXPECT_THAT(Shards("val"), ElementsAre(ElementsAre(kEnd, 'a', kEnd, 'c')));
}

TEST_F(CorpusTest, AFractionOfTheDocumentsIsDrawnForValidation) {
  std::string lines;
  for (int i = 0; i < 2000; ++i) lines += "{\"text\": \"x\"}\n";
  Write("a.jsonl", lines);
  options_.encode.validation_fraction = 0.1;
  const auto summary = Run();
  ASSERT_TRUE(summary.ok());
  EXPECT_EQ(summary->splits[0].documents + summary->splits[1].documents, 2000);
  EXPECT_NEAR(static_cast<double>(summary->splits[1].documents), 200.0, 45.0);
  options_.overwrite = true;
  options_.encode.validation_fraction = 1.0;
  EXPECT_EQ(Run()->splits[1].documents, 2000);
}

TEST_F(CorpusTest, NeitherThreadsNorCompressionChangeTheResult) {
  std::string lines;
  for (int i = 0; i < 3000; ++i) {
    const std::string text(static_cast<size_t>(i * 37 % 1500), static_cast<char>('a' + i % 26));
    lines += Json{{"text", text}}.dump() + "\n";
  }
  options_.encode.validation_fraction = 0.2;
  options_.shard_tokens = 300000;
  Write("a.jsonl", lines);
  ASSERT_TRUE(Run().ok());
  const auto train = Shards("train");
  const auto val = Shards("val");
  EXPECT_GT(train.size(), 3);
  std::filesystem::remove(Path("in/a.jsonl"));
  std::string compressed(ZSTD_compressBound(lines.size()), '\0');
  compressed.resize(
      ZSTD_compress(compressed.data(), compressed.size(), lines.data(), lines.size(), 1));
  Write("a.jsonl.zst", compressed);
  options_.overwrite = true;
  for (const int threads : {2, 5}) {
    options_.num_threads = threads;
    ASSERT_TRUE(Run().ok());
    EXPECT_TRUE(Shards("train") == train);
    EXPECT_TRUE(Shards("val") == val);
  }
}

TEST_F(CorpusTest, ReportsItsProgress) {
  Write("a.txt", std::string(1000, 'a'));
  Write("b.txt", std::string(500, 'b'));
  std::vector<CorpusProgress> reports;
  ASSERT_TRUE(WriteCorpus(FileSystem::Posix(), ByteTokenizer(), options_,
                          [&](const CorpusProgress& progress) { reports.push_back(progress); })
                  .ok());
  ASSERT_FALSE(reports.empty());
  EXPECT_EQ(reports.back().input_bytes, 1500);
  EXPECT_EQ(reports.back().total_input_bytes, 1500);
  EXPECT_EQ(reports.back().text_bytes, 1500);
  EXPECT_EQ(reports.back().documents, 2);
  EXPECT_EQ(reports.back().tokens, 1502);
}

TEST_F(CorpusTest, NamesFileAndLineOfABadDocument) {
  const std::string good = "{\"text\": \"good\"}\n";
  const auto invalid = absl::StatusCode::kInvalidArgument;
  Write("a.jsonl", good + "{\"text\": \"\xC3(\"}\n" + good);
  ExpectRefused(invalid, Path("in/a.jsonl") + ":2: not UTF-8: byte 11 of the line is 0xc3");
  Write("a.jsonl", good + "\n" + "{\"text\": \n");
  ExpectRefused(invalid, Path("in/a.jsonl") + ":3: not valid JSON: column ");
  Write("a.jsonl", good + "{\"content\": \"x\"}\n");
  ExpectRefused(invalid, Path("in/a.jsonl") + ":2: no field 'text' (there are: content)");
  Write("a.jsonl", "{\"text\": [\"x\"]}\n");
  ExpectRefused(invalid, ":1: field 'text' must be a string and is a JSON array");
  options_.encode.split_field = "split";
  Write("a.jsonl", "{\"text\": \"x\", \"split\": \"test\"}\n");
  ExpectRefused(invalid, ":1: field 'split' is 'test'; allowed are train, val, valid, validation");
  std::filesystem::remove(Path("in/a.jsonl"));
  Write("b.txt", "x");
  ExpectRefused(invalid, Path("in/b.txt") + ": a text file has no field 'split' to tell its split");
  EXPECT_FALSE(std::filesystem::exists(Path("out")));
}

TEST_F(CorpusTest, TheFirstErrorInTheOrderOfTheInputIsTheOneThatIsTold) {
  options_.num_threads = 4;
  std::string lines;
  for (int i = 1; i <= 400; ++i) {
    lines += i % 100 == 0 ? "broken\n" : Json{{"text", std::string(20000, 'x')}}.dump() + "\n";
  }
  Write("a.jsonl", lines);
  Write("b.jsonl.zst", "no zstd");
  for (int round = 0; round < 3; ++round) {
    ExpectRefused(absl::StatusCode::kInvalidArgument, "a.jsonl:100: not valid JSON");
  }
}

TEST_F(CorpusTest, SaysWhenACompressedFileIsCut) {
  const std::string lines = "{\"text\": \"x\"}\n";
  std::string compressed(ZSTD_compressBound(lines.size()), '\0');
  compressed.resize(
      ZSTD_compress(compressed.data(), compressed.size(), lines.data(), lines.size(), 1));
  Write("a.jsonl.zst", compressed.substr(0, compressed.size() - 3));
  ExpectRefused(absl::StatusCode::kInvalidArgument,
                "a.jsonl.zst: the zstd stream ends in the middle");
}

TEST_F(CorpusTest, RefusesInputWithoutDocuments) {
  Write("a.jsonl", "\n\n");
  ExpectRefused(absl::StatusCode::kNotFound,
                "no document in the 1 input file(s), the first of which is '" + Path("in/a.jsonl"));
}

class LargeTokenizer : public ByteTokenizer {
 public:
  int32_t vocab_size() const override { return 65537; }
};

TEST_F(CorpusTest, RefusesATokenizerThatSixteenBitsCannotHold) {
  Write("a.txt", "x");
  const auto summary =
      WriteCorpus(FileSystem::Posix(), LargeTokenizer(), options_, [](const CorpusProgress&) {});
  EXPECT_EQ(summary.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(summary.status().message(),
            "tokenizer 'byte' has 65537 tokens; shards of 16 bits a token hold at most 65536");
}

TEST_F(CorpusTest, AFinishedSetIsReplacedOnlyOnRequest) {
  Write("a.txt", "one");
  ASSERT_TRUE(Run().ok());
  Write("a.txt", "two");
  ExpectRefused(absl::StatusCode::kAlreadyExists,
                "out' holds token shards already; give --overwrite to replace them");
  EXPECT_THAT(Shards("train"), ElementsAre(ElementsAre(kEnd, 'o', 'n', 'e')));
  options_.overwrite = true;
  options_.output = Path("out//");
  ASSERT_TRUE(Run().ok());
  EXPECT_THAT(Shards("train"), ElementsAre(ElementsAre(kEnd, 't', 'w', 'o')));
  EXPECT_THAT(Names(""), ElementsAre("in", "out"));
}

TEST_F(CorpusTest, AFailedRunKeepsTheSetThatWasThere) {
  Write("a.jsonl", "{\"text\": \"one\"}\n");
  ASSERT_TRUE(Run().ok());
  options_.overwrite = true;
  Write("a.jsonl", "{\"text\": \"one\"}\nbroken\n");
  ExpectRefused(absl::StatusCode::kInvalidArgument, "a.jsonl:2: not valid JSON");
  EXPECT_THAT(Shards("train"), ElementsAre(ElementsAre(kEnd, 'o', 'n', 'e')));
}

TEST_F(CorpusTest, NeverTouchesFilesThatAreNotItsOwn) {
  Write("a.txt", "one");
  options_.overwrite = true;
  std::filesystem::create_directory(Path("out"));
  ASSERT_TRUE(Run().ok()) << "an empty folder is fine";
  WriteFile(Path("out/notes.md"), "mine");
  ExpectRefused(absl::StatusCode::kAlreadyExists, "holds 'notes.md', which is no token shard");
  EXPECT_EQ(ReadFile(Path("out/notes.md")), "mine");
  options_.output = Path("in/a.txt");
  ExpectRefused(absl::StatusCode::kAlreadyExists, "in/a.txt' is a file; give the name of a folder");
  options_.output = Path("out.tmp");
  ExpectRefused(absl::StatusCode::kInvalidArgument, "out.tmp' ends in .tmp");
}

TEST_F(CorpusTest, WhatAnInterruptedRunLeftIsRemoved) {
  Write("a.txt", "one");
  std::filesystem::create_directory(Path("out.tmp"));
  WriteFile(Path("out.tmp/train_000007.bin"), "half");
  ASSERT_TRUE(Run().ok());
  EXPECT_THAT(Names("out"), ElementsAre("index.json", "train_000000.bin"));
  EXPECT_THAT(Names(""), ElementsAre("in", "out"));
}

// What lies at `out`, as shards; empty when there is nothing.
using Contents = std::vector<std::vector<int32_t>>;

TEST_F(CorpusTest, APowerCutAtAnyCallLeavesAWholeSetOrNone) {
  options_.shard_tokens = 4;
  Write("a.txt", "abcdef");
  const Contents complete = {{kEnd, 'a', 'b', 'c'}, {'d', 'e', 'f'}};
  FaultyFileSystem counting(FileSystem::Posix(), Path("scratch"));
  ASSERT_TRUE(Run(counting).ok());
  const int64_t calls = counting.calls();
  ASSERT_GT(calls, 20);
  for (int64_t call = 1; call <= calls; ++call) {
    for (const UnsyncedContents contents :
         {UnsyncedContents::kKept, UnsyncedContents::kHalf, UnsyncedContents::kLost}) {
      for (const UnsyncedNames names : {UnsyncedNames::kKept, UnsyncedNames::kLost}) {
        for (const char* rest : {"out", "out.tmp", "scratch", "scratch2"}) {
          std::filesystem::remove_all(Path(rest));
        }
        FaultyFileSystem fs(FileSystem::Posix(), Path("scratch"));
        fs.CrashAt(call);
        EXPECT_FALSE(Run(fs).ok());
        fs.LosePower(contents, names);
        if (std::filesystem::exists(Path("out"))) {
          EXPECT_EQ(Shards("train"), complete) << call;
          EXPECT_TRUE(std::filesystem::exists(Path("out/index.json"))) << call;
        } else {
          // Through the same kind of file system, which does not really sync: a second instead of twenty.
          FaultyFileSystem next(FileSystem::Posix(), Path("scratch2"));
          ASSERT_TRUE(Run(next).ok()) << "the next run, after call " << call;
          EXPECT_EQ(Shards("train"), complete) << call;
        }
      }
    }
  }
}

TEST_F(CorpusTest, AnErrorAtAnyCallOfAReplacementLeavesTheOldSetOrTheNew) {
  Write("a.txt", "new");
  options_.overwrite = true;
  const Contents before = {{kEnd, 'o', 'l', 'd'}};
  const Contents after = {{kEnd, 'n', 'e', 'w'}};
  int64_t calls = 0;
  // Run 0 has no fault and tells how many calls there are.
  for (int64_t call = 0; call <= calls; ++call) {
    for (const char* rest : {"out", "scratch"}) std::filesystem::remove_all(Path(rest));
    Write("a.txt", "old");
    FaultyFileSystem fs(FileSystem::Posix(), Path("scratch"));
    ASSERT_TRUE(Run(fs).ok());
    Write("a.txt", "new");
    const int64_t calls_before = fs.calls();
    fs.FailAt(calls_before + call, absl::ResourceExhaustedError("no space left"));
    const absl::Status status = Run(fs).status();
    if (call == 0) calls = fs.calls() - calls_before;
    const Contents found = Shards("train");
    EXPECT_TRUE(found == before || found == after) << call;
    EXPECT_TRUE(!status.ok() || found == after) << call;
    EXPECT_EQ(status.ok(), call == 0) << call;
  }
  EXPECT_GT(calls, 15);
}

}  // namespace
}  // namespace entrain
