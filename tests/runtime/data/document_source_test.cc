#include "runtime/data/document_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/file_contents.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DocumentSourceTest : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& contents) const {
    std::filesystem::create_directories(
        std::filesystem::path(folder_.path() + "/" + name).parent_path());
    WriteFile(folder_.path() + "/" + name, contents);
  }
  absl::StatusOr<DocumentSource> Open(const std::vector<std::string>& names,
                                      const std::vector<std::string>& extensions = {},
                                      int64_t max_bytes = 1 << 20) const {
    std::vector<std::string> paths;
    for (const std::string& name : names) paths.push_back(folder_.path() + "/" + name);
    return DocumentSource::Open(FileSystem::Posix(), paths, extensions, max_bytes);
  }
  // "name:line=bytes" of every document; an error ends the list with its message.
  std::vector<std::string> Documents(absl::StatusOr<DocumentSource> source) const {
    EXPECT_TRUE(source.ok()) << source.status();
    std::vector<std::string> documents;
    RawDocument document;
    for (;;) {
      const auto found = source->Next(&document);
      if (!found.ok()) documents.emplace_back(found.status().message());
      if (!found.ok() || !*found) break;
      EXPECT_EQ(document.index, static_cast<int64_t>(documents.size()));
      documents.push_back(document.Where().substr(folder_.path().size() + 1) + "=" +
                          document.bytes);
    }
    EXPECT_LE(source->bytes_consumed(), source->total_bytes());
    return documents;
  }

  TemporaryFolder folder_;
};

TEST_F(DocumentSourceTest, AJsonlFileIsADocumentALine) {
  Write("a.jsonl", "{1}\n\n  \t\r\n{2}\r\n{3}");
  EXPECT_THAT(Documents(Open({"a.jsonl"})),
              ElementsAre("a.jsonl:1={1}", "a.jsonl:4={2}\r", "a.jsonl:5={3}"));
}

TEST_F(DocumentSourceTest, ALinkBackToAFolderAboveIsPassedOver) {
  Write("in/a.txt", "a");
  Write("in/sub/b.txt", "b");
  for (const char* link : {"in/self", "in/sub/up", "in/sub/again"}) {
    std::filesystem::create_directory_symlink(folder_.path() + "/in", folder_.path() + "/" + link);
  }
  std::filesystem::create_directory_symlink(folder_.path() + "/in/sub",
                                            folder_.path() + "/in/twin");
  EXPECT_THAT(Documents(Open({"in"})),
              ElementsAre("in/a.txt=a", "in/sub/b.txt=b", "in/twin/b.txt=b"));
}

TEST_F(DocumentSourceTest, APipeInAFolderIsPassedOver) {
  Write("in/b.txt", "b");
  ASSERT_EQ(mkfifo((folder_.path() + "/in/a.txt").c_str(), 0600), 0);
  EXPECT_THAT(Documents(Open({"in"})), ElementsAre("in/b.txt=b"));
}

TEST_F(DocumentSourceTest, ATextFileIsOneDocument) {
  Write("a.txt", "one\ntwo\n");
  Write("empty.txt", "");
  EXPECT_THAT(Documents(Open({"a.txt", "empty.txt"})),
              ElementsAre("a.txt=one\ntwo\n", "empty.txt="));
}

TEST_F(DocumentSourceTest, LinesLongerThanTheBufferAreWhole) {
  const std::string text(1000000, 'x');
  Write("a.jsonl", text + "\n" + text + "y\n");
  EXPECT_THAT(Documents(Open({"a.jsonl"})),
              ElementsAre("a.jsonl:1=" + text, "a.jsonl:2=" + text + "y"));
}

TEST_F(DocumentSourceTest, FoldersAreReadInNameOrder) {
  Write("d/b.txt", "b");
  Write("d/a/z.jsonl", "z\n");
  Write("d/a/code.py", "p");
  Write("d/c.bin", "no");
  Write("d/jsonl", "no");
  EXPECT_THAT(Documents(Open({"d"})), ElementsAre("d/a/z.jsonl:1=z", "d/b.txt=b"));
  EXPECT_THAT(Documents(Open({"d"}, {".py"})),
              ElementsAre("d/a/code.py=p", "d/a/z.jsonl:1=z", "d/b.txt=b"));
  EXPECT_THAT(Documents(Open({"d/b.txt", "d/a"})), ElementsAre("d/b.txt=b", "d/a/z.jsonl:1=z"));
  EXPECT_EQ(Open({"d"})->total_bytes(), 3);
}

TEST_F(DocumentSourceTest, SaysWhatCannotBeRead) {
  Write("a.parquet", "x");
  Write("empty/x.md", "x");
  const absl::Status missing = Open({"none.jsonl"}).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(missing.message(), "no such file or folder: '" + folder_.path() + "/none.jsonl'");
  const absl::Status kind = Open({"a.parquet"}).status();
  EXPECT_EQ(kind.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(kind.message(), "'" + folder_.path() +
                                "/a.parquet' is none of the kinds that are read: .jsonl, "
                                ".jsonl.zst, .txt; name others with --extension");
  const absl::Status nothing = Open({"empty"}, {".py"}).status();
  EXPECT_EQ(nothing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(nothing.message()),
              HasSubstr("holds no file of the kinds .jsonl, .jsonl.zst, .txt, .py"));
  EXPECT_EQ(Open({}).status().message(), "no input was given");
}

TEST_F(DocumentSourceTest, ADocumentMayNotFillTheMemory) {
  Write("a.jsonl", "short\n" + std::string(101, 'x') + "\n");
  Write("b.txt", std::string(101, 'x'));
  EXPECT_THAT(Documents(Open({"a.jsonl"}, {}, 101)), ::testing::SizeIs(2));
  const std::string reason =
      ": a document of more than 100 bytes; a document is held in memory as a whole: cut it into "
      "smaller ones";
  EXPECT_THAT(Documents(Open({"a.jsonl"}, {}, 100)),
              ElementsAre("a.jsonl:1=short", folder_.path() + "/a.jsonl:2" + reason));
  EXPECT_THAT(Documents(Open({"b.txt"}, {}, 100)), ElementsAre(folder_.path() + "/b.txt" + reason));
}

}  // namespace
}  // namespace entrain
