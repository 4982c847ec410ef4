#include "runtime/io/file_system.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FileSystemTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return JoinPath(folder_.path(), name); }

  TemporaryFolder folder_;
  FileSystem& fs_ = FileSystem::Posix();
};

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(JoinPath, PutsOneSlashBetween) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("/", "b"), "/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
}

TEST(ParentPath, IsTheFolderThatHoldsThePath) {
  EXPECT_EQ(ParentPath("a/b/c"), "a/b");
  EXPECT_EQ(ParentPath("a/b/"), "a");
  EXPECT_EQ(ParentPath("a"), ".");
  EXPECT_EQ(ParentPath("/a"), "/");
  EXPECT_EQ(ParentPath("/"), "/");
}

TEST_F(FileSystemTest, WritesWhatIsAppendedInOrder) {
  auto file = fs_.Create(Path("f"));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->Append("ab", 2).ok());
  ASSERT_TRUE((*file)->Append("", 0).ok());
  ASSERT_TRUE((*file)->Append("cde", 3).ok());
  ASSERT_TRUE((*file)->Sync().ok());
  ASSERT_TRUE((*file)->Close().ok());
  EXPECT_EQ(*fs_.ReadText(Path("f")), "abcde");
  EXPECT_EQ(*fs_.FileSize(Path("f")), 5);
}

TEST_F(FileSystemTest, AppendsMoreThanOneWriteTakes) {
  std::string large((size_t{80} << 20) + 3, '\0');
  for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 2654435761U >> 13);
  auto file = fs_.Create(Path("large"));
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->Append(large.data(), static_cast<int64_t>(large.size())).ok());
  ASSERT_TRUE((*file)->Close().ok());
  auto mapped = fs_.Map(Path("large"));
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  const auto bytes = (*mapped)->bytes();
  EXPECT_TRUE(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()) == large);
}

TEST_F(FileSystemTest, CreateReplacesWhatWasThere) {
  ASSERT_TRUE(WriteTextSynced(fs_, Path("f"), "a longer text").ok());
  ASSERT_TRUE(WriteTextSynced(fs_, Path("f"), "short").ok());
  EXPECT_EQ(*fs_.ReadText(Path("f")), "short");
}

TEST_F(FileSystemTest, MapsAnEmptyFile) {
  ASSERT_TRUE(WriteTextSynced(fs_, Path("empty"), "").ok());
  auto mapped = fs_.Map(Path("empty"));
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_TRUE((*mapped)->bytes().empty());
}

TEST_F(FileSystemTest, NamesWhatIsMissing) {
  for (const absl::Status& status :
       {fs_.Map(Path("nothing")).status(), fs_.ReadText(Path("nothing")).status(),
        fs_.FileSize(Path("nothing")).status(), fs_.List(Path("nothing")).status(),
        fs_.FreeSpace(Path("nothing")).status(), fs_.RemoveFile(Path("nothing")),
        fs_.SyncDirectory(Path("nothing")), fs_.Rename(Path("nothing"), Path("other")),
        fs_.Create(Path("nothing/file")).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
    EXPECT_THAT(Message(status), HasSubstr(Path("nothing")));
    EXPECT_THAT(Message(status), HasSubstr("No such file or directory"));
  }
}

TEST_F(FileSystemTest, RefusesAFolderWhereAFileIsWanted) {
  for (const absl::Status& status :
       {fs_.Map(folder_.path()).status(), fs_.ReadText(folder_.path()).status(),
        fs_.FileSize(folder_.path()).status(), fs_.Create(folder_.path()).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(Message(status), HasSubstr("Is a directory"));
  }
}

TEST_F(FileSystemTest, RefusesNamesThatLeadNowhere) {
  ASSERT_EQ(::symlink(Path("circle").c_str(), Path("circle").c_str()), 0);
  for (const std::string& name : {std::string("circle"), std::string(300, 'x')}) {
    EXPECT_EQ(fs_.ReadText(Path(name)).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(fs_.Exists(Path(name)).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(FileSystemTest, RefusesToMapAPipeAndDoesNotWaitForItsWriter) {
  ASSERT_EQ(::mkfifo(Path("pipe").c_str(), 0600), 0);
  ::alarm(60);  // ends a test that waits
  EXPECT_THAT(Message(fs_.Map(Path("pipe")).status()), HasSubstr("not a regular file"));
  const int writer = ::open(Path("pipe").c_str(), O_RDWR | O_NONBLOCK);
  EXPECT_THAT(Message(fs_.Map(Path("pipe")).status()), HasSubstr("not a regular file"));
  ::close(writer);
  ::alarm(0);
}

TEST_F(FileSystemTest, RefusesAFileWhereAFolderIsWanted) {
  ASSERT_TRUE(WriteTextSynced(fs_, Path("f"), "x").ok());
  for (const absl::Status& status : {fs_.List(Path("f")).status(), fs_.SyncDirectory(Path("f")),
                                     fs_.MakeDirectories(Path("f/below"))}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(Message(status), HasSubstr("Not a directory"));
  }
}

TEST_F(FileSystemTest, SaysWhenPermissionIsDenied) {
  ASSERT_TRUE(WriteTextSynced(fs_, Path("f"), "x").ok());
  ASSERT_EQ(::chmod(Path("f").c_str(), 0), 0);
  const uid_t user = ::geteuid();
  constexpr uid_t kNobody = 65534;  // root may read everything, so it is somebody else for a moment
  ASSERT_EQ(::seteuid(user == 0 ? kNobody : user), 0);
  const absl::Status status = fs_.ReadText(Path("f")).status();
  ASSERT_EQ(::seteuid(user), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(Message(status), HasSubstr("cannot open '" + Path("f") + "': Permission denied"));
}

TEST_F(FileSystemTest, MakesFoldersInOneGo) {
  ASSERT_TRUE(fs_.MakeDirectories(Path("a/b/c")).ok());
  ASSERT_TRUE(fs_.MakeDirectories(Path("a/b/c")).ok()) << "again is no error";
  EXPECT_TRUE(*fs_.IsDirectory(Path("a/b/c")));
  EXPECT_TRUE(fs_.SyncDirectory(Path("a/b")).ok());
}

TEST_F(FileSystemTest, ListsSortedByName) {
  ASSERT_TRUE(fs_.MakeDirectories(Path("b")).ok());
  for (const char* name : {"c", "a", ".hidden"})
    ASSERT_TRUE(WriteTextSynced(fs_, Path(name), "").ok());
  ASSERT_EQ(::symlink("nowhere", Path("dangling").c_str()), 0);
  const auto entries = fs_.List(folder_.path());
  ASSERT_TRUE(entries.ok()) << entries.status();
  std::vector<std::string> names;
  for (const DirEntry& entry : *entries)
    names.push_back(entry.name + (entry.is_directory ? "/" : ""));
  EXPECT_THAT(names, ElementsAre(".hidden", "a", "b/", "c", "dangling"));
}

TEST_F(FileSystemTest, RenameReplacesAFileButNotAFullFolder) {
  ASSERT_TRUE(WriteTextSynced(fs_, Path("new"), "new").ok());
  ASSERT_TRUE(WriteTextSynced(fs_, Path("old"), "old").ok());
  ASSERT_TRUE(fs_.Rename(Path("new"), Path("old")).ok());
  EXPECT_EQ(*fs_.ReadText(Path("old")), "new");
  EXPECT_FALSE(*fs_.Exists(Path("new")));

  ASSERT_TRUE(fs_.MakeDirectories(Path("full/x")).ok());
  ASSERT_TRUE(fs_.MakeDirectories(Path("from")).ok());
  const absl::Status status = fs_.Rename(Path("from"), Path("full"));
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
  EXPECT_THAT(Message(status),
              HasSubstr("rename '" + Path("from") + "' to '" + Path("full") + "'"));
}

TEST_F(FileSystemTest, RemovesAFile) {
  ASSERT_TRUE(WriteTextSynced(fs_, Path("f"), "x").ok());
  ASSERT_TRUE(fs_.RemoveFile(Path("f")).ok());
  EXPECT_FALSE(*fs_.Exists(Path("f")));
}

TEST_F(FileSystemTest, RemovesATreeAndAcceptsThatThereIsNone) {
  ASSERT_TRUE(fs_.MakeDirectories(Path("tree/a/b")).ok());
  ASSERT_TRUE(WriteTextSynced(fs_, Path("tree/a/f"), "x").ok());
  EXPECT_TRUE(fs_.RemoveTree(Path("tree")).ok());
  EXPECT_FALSE(*fs_.Exists(Path("tree")));
  EXPECT_TRUE(fs_.RemoveTree(Path("tree")).ok());
}

TEST_F(FileSystemTest, TellsFilesFromFolders) {
  ASSERT_TRUE(WriteTextSynced(fs_, Path("f"), "x").ok());
  EXPECT_TRUE(*fs_.Exists(Path("f")));
  EXPECT_FALSE(*fs_.IsDirectory(Path("f")));
  EXPECT_TRUE(*fs_.IsDirectory(folder_.path()));
  EXPECT_FALSE(*fs_.IsDirectory(Path("nothing")));
  EXPECT_FALSE(*fs_.Exists(Path("f/below a file")));
}

TEST_F(FileSystemTest, KnowsTheFreeSpace) {
  const auto free = fs_.FreeSpace(folder_.path());
  ASSERT_TRUE(free.ok()) << free.status();
  EXPECT_GT(*free, 0);
}

TEST_F(FileSystemTest, ReadsWhatHasNoSize) {
  const auto text = fs_.ReadText("/proc/self/status");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, HasSubstr("VmSize"));
}

TEST_F(FileSystemTest, AFileSizeLimitIsNoSpace) {
  const auto restore = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit limit = {4096, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  auto file = fs_.Create(Path("f"));
  const std::string data(10000, 'x');
  const absl::Status status = (*file)->Append(data.data(), 10000);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, restore);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(Message(status), HasSubstr("cannot write to '" + Path("f") + "': File too large"));
}

TEST_F(FileSystemTest, NoSpaceLeftIsResourceExhausted) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "there is no /dev/full";
  auto file = fs_.Create("/dev/full");
  ASSERT_TRUE(file.ok()) << file.status();
  const absl::Status status = (*file)->Append("x", 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(Message(status), HasSubstr("cannot write to '/dev/full': No space left on device"));
}

TEST_F(FileSystemTest, WriteTextAtomicallyReplacesAndLeavesNothingElse) {
  ASSERT_TRUE(WriteTextAtomically(fs_, Path("f"), "one").ok());
  ASSERT_TRUE(WriteTextAtomically(fs_, Path("f"), "two").ok());
  EXPECT_EQ(*fs_.ReadText(Path("f")), "two");
  EXPECT_EQ(fs_.List(folder_.path())->size(), 1U);
}

TEST_F(FileSystemTest, WriteTextAtomicallyKeepsTheOldTextWhenItFails) {
  ASSERT_TRUE(fs_.MakeDirectories(Path("target/full")).ok());
  const absl::Status status = WriteTextAtomically(fs_, Path("target"), "text");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(Message(status), HasSubstr(Path("target")));
  EXPECT_TRUE(*fs_.Exists(Path("target/full")));
  EXPECT_FALSE(*fs_.Exists(Path("target.tmp")));
}

}  // namespace
}  // namespace entrain
