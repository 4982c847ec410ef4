#include "runtime/io/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "tests/support/faulty_file_system.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class ManifestTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return JoinPath(folder_.path(), name); }

  ManifestFile Write(const std::string& name, const std::string& text) {
    CHECK(WriteTextSynced(fs_, Path(name), text).ok());
    return {name, static_cast<int64_t>(text.size()),
            ChecksumOf(text.data(), static_cast<int64_t>(text.size()))};
  }

  // A committed folder of two files.
  Manifest Commit() {
    Manifest manifest;
    manifest.files = {Write("a.bin", "contents of a"), Write("b.bin", "")};
    manifest.extra = R"({"step": 7})";
    CHECK(CommitManifest(fs_, folder_.path(), manifest).ok());
    return manifest;
  }

  std::string ManifestText() { return fs_.ReadText(Path(kManifestName)).value(); }

  // Changes the manifest's fields and gives it a checksum that holds.
  void Rewrite(const std::function<void(nlohmann::json&)>& change) {
    nlohmann::json json = nlohmann::json::parse(ManifestText());
    change(json);
    json.erase("checksum");
    const std::string text = json.dump();
    json["checksum"] = ChecksumOf(text.data(), static_cast<int64_t>(text.size()));
    Write(kManifestName, json.dump());
  }

  absl::Status ReadStatus() { return ReadManifest(fs_, folder_.path()).status(); }

  TemporaryFolder folder_{TemporaryFolder::FastPlace()};  // thousands of damaged manifests
  FileSystem& fs_ = FileSystem::Posix();
};

TEST_F(ManifestTest, ReadsWhatWasCommitted) {
  const Manifest written = Commit();
  const auto read = ReadManifest(fs_, folder_.path());
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->files.size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(read->files[i].name, written.files[i].name);
    EXPECT_EQ(read->files[i].bytes, written.files[i].bytes);
    EXPECT_EQ(read->files[i].checksum, written.files[i].checksum);
  }
  EXPECT_EQ(read->extra, R"({"step":7})");
  EXPECT_THAT(read->written_by, HasSubstr("entrain "));
  EXPECT_TRUE(VerifyManifest(fs_, folder_.path(), *read).ok());
}

TEST_F(ManifestTest, AnEmptyOneIsOneToo) {
  ASSERT_TRUE(CommitManifest(fs_, folder_.path(), {}).ok());
  const auto read = ReadManifest(fs_, folder_.path());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->files.empty());
  EXPECT_EQ(read->extra, "{}");
}

TEST_F(ManifestTest, ReplacesTheOneBefore) {
  Commit();
  Manifest second;
  second.files = {Write("c.bin", "c")};
  ASSERT_TRUE(CommitManifest(fs_, folder_.path(), second).ok());
  EXPECT_EQ(ReadManifest(fs_, folder_.path())->files.size(), 1U);
}

TEST_F(ManifestTest, NamesAreOnTheDeviceBeforeTheManifestIs) {
  FaultyFileSystem faulty(fs_, Path("scratch"));

  faulty.FailAt(1, absl::InternalError("made up"));
  EXPECT_EQ(Message(CommitManifest(faulty, folder_.path(), {})), "made up");
  EXPECT_FALSE(*fs_.Exists(Path("manifest.json.tmp")))
      << "the folder is synced before anything is written";
}

TEST_F(ManifestTest, AFolderWithoutOneWasNeverCommitted) {
  EXPECT_EQ(ReadStatus().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(ReadStatus()),
              HasSubstr("'" + folder_.path() + "' was never committed: it has no manifest.json"));
}

TEST_F(ManifestTest, RefusesANameThatIsNotUtf8) {
  Manifest manifest;
  manifest.files = {{"bad\xff", 0, ""}};
  const absl::Status status = CommitManifest(fs_, folder_.path(), manifest);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), HasSubstr("not UTF-8"));
}

TEST_F(ManifestTest, FindsAMissingFile) {
  const Manifest manifest = Commit();
  ASSERT_TRUE(fs_.RemoveFile(Path("a.bin")).ok());
  const absl::Status status = VerifyManifest(fs_, folder_.path(), manifest);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status),
              HasSubstr("'" + Path("a.bin") + "' is missing, its manifest lists it with 13 bytes"));
}

TEST_F(ManifestTest, FindsAnotherSizeWithoutReadingTheContents) {
  const Manifest manifest = Commit();
  Write("a.bin", "contents");
  for (const bool check_contents : {false, true}) {
    const absl::Status status = VerifyManifest(fs_, folder_.path(), manifest, check_contents);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(Message(status),
                HasSubstr("'" + Path("a.bin") + "' has 8 bytes, its manifest says 13"));
  }
}

TEST_F(ManifestTest, FindsOtherContents) {
  const Manifest manifest = Commit();
  const ManifestFile other = Write("a.bin", "contents of b");
  EXPECT_TRUE(VerifyManifest(fs_, folder_.path(), manifest, /*check_contents=*/false).ok());
  const absl::Status status = VerifyManifest(fs_, folder_.path(), manifest);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), AllOf(HasSubstr("'" + Path("a.bin") +
                                               "' is damaged: its checksum is " + other.checksum),
                                     HasSubstr("its manifest says " + manifest.files[0].checksum)));
}

// Files of many sizes are hashed at a time, so that later ones are found to be damaged sooner.
TEST_F(ManifestTest, NamesTheFirstOfSeveralDamagedFiles) {
  Manifest manifest;
  for (int i = 0; i < 24; ++i) {
    const std::string name = std::to_string(i) + ".bin";
    manifest.files.push_back(Write(name, std::string(static_cast<size_t>(24 - i) * 200'000, 'a')));
  }
  ASSERT_TRUE(VerifyManifest(fs_, folder_.path(), manifest).ok());
  for (int first = 23; first >= 0; --first) {
    const size_t bytes = static_cast<size_t>(24 - first) * 200'000;
    Write(std::to_string(first) + ".bin", std::string(bytes, 'b'));
    const absl::Status status = VerifyManifest(fs_, folder_.path(), manifest);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(Message(status), HasSubstr("/" + std::to_string(first) + ".bin' is damaged"));
  }
}

TEST_F(ManifestTest, FindsAFolderInAFilesPlace) {
  const Manifest manifest = Commit();
  ASSERT_TRUE(fs_.RemoveFile(Path("a.bin")).ok());
  ASSERT_TRUE(fs_.MakeDirectories(Path("a.bin")).ok());
  ASSERT_TRUE(fs_.RemoveFile(Path(kManifestName)).ok());
  ASSERT_TRUE(fs_.MakeDirectories(Path(kManifestName)).ok());
  for (const absl::Status& status : {VerifyManifest(fs_, folder_.path(), manifest), ReadStatus()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << "not of a later version: " << status;
    EXPECT_THAT(Message(status), HasSubstr("Is a directory"));
  }
}

TEST_F(ManifestTest, FindsEveryFlippedBitOfItself) {
  Commit();
  const std::string text = ManifestText();
  for (size_t bit = 0; bit < text.size() * 8; ++bit) {
    std::string flipped = text;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    auto file = fs_.Create(Path(kManifestName));
    ASSERT_TRUE((*file)->Append(flipped.data(), static_cast<int64_t>(flipped.size())).ok());
    ASSERT_TRUE((*file)->Close().ok());
    const absl::Status status = ReadStatus();
    ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss) << "bit " << bit << ": " << status;
    ASSERT_THAT(Message(status), HasSubstr("'" + Path(kManifestName) + "' is damaged: "));
  }
}

TEST_F(ManifestTest, FindsEveryTruncationOfItself) {
  Commit();
  const std::string text = ManifestText();
  for (size_t size = 0; size + 1 < text.size();
       ++size) {  // the last byte is a newline that nothing needs
    Write(kManifestName, text.substr(0, size));
    ASSERT_EQ(ReadStatus().code(), absl::StatusCode::kDataLoss) << size;
  }
}

TEST_F(ManifestTest, RefusesALaterVersionByName) {
  Commit();
  Rewrite([](nlohmann::json& json) {
    json["version"] = 2;
    json["written_by"] = "entrain 9.5.0";
    json.erase("files");  // its layout is not known
  });
  const absl::Status status = ReadStatus();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status),
              AllOf(HasSubstr("was written by entrain 9.5.0 in format version 2"),
                    HasSubstr("reads version 1 only: use the program that wrote it")));
}

TEST_F(ManifestTest, RefusesFieldsThatAreMissingOrOfAnotherType) {
  Commit();
  const std::string good = ManifestText();
  const std::pair<std::function<void(nlohmann::json&)>, const char*> changes[] = {
      {[](auto& json) { json.erase("version"); }, "key 'version' not found"},
      {[](auto& json) { json["version"] = "1"; }, "type must be number"},
      {[](auto& json) { json.erase("written_by"); }, "key 'written_by' not found"},
      {[](auto& json) { json.erase("extra"); }, "key 'extra' not found"},
      {[](auto& json) { json["extra"] = 3; }, "type must be object"},
      {[](auto& json) { json.erase("files"); }, "key 'files' not found"},
      {[](auto& json) { json["files"] = 7; }, "cannot use at() with number"},
      {[](auto& json) { json["files"][1] = 3; }, "cannot use at() with number"},
      {[](auto& json) { json["files"][1].erase("name"); }, "key 'name' not found"},
      {[](auto& json) { json["files"][0]["bytes"] = "1"; }, "type must be number"},
      {[](auto& json) { json["files"][0]["checksum"] = 5; }, "type must be string"},
      {[](auto& json) { json["files"][0]["name"] = "../outside"; },
       "it lists '../outside', which is not a name"},
      {[](auto& json) { json["files"][0]["name"] = ".."; }, "it lists '..', which is not a name"},
      {[](auto& json) { json["files"][0]["name"] = ""; }, "it lists '', which is not a name"},
  };
  for (const auto& [change, expected] : changes) {
    Write(kManifestName, good);
    Rewrite(change);
    EXPECT_EQ(ReadStatus().code(), absl::StatusCode::kDataLoss) << expected;
    EXPECT_THAT(Message(ReadStatus()), HasSubstr(expected));
  }
}

// Deeper than a thread's stack could follow.
TEST_F(ManifestTest, RefusesOneOfAnyDepth) {
  constexpr size_t kDepth = 300'000;
  Write(kManifestName,
        R"({"checksum":"","extra":)" + std::string(kDepth, '[') + std::string(kDepth, ']') + "}");
  EXPECT_THAT(Message(ReadStatus()), HasSubstr("its own checksum is"));
}

TEST_F(ManifestTest, RefusesOneWithoutAChecksumOfItself) {
  Write(kManifestName, R"({"version": 1, "files": [], "extra": {}})");
  EXPECT_THAT(Message(ReadStatus()), HasSubstr("its own checksum is missing"));
}

}  // namespace
}  // namespace entrain
