#include "runtime/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/io/checksum.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TensorToWrite Tensor(const std::string& name, const std::string& dtype, std::vector<int64_t> shape,
                     const std::string& bytes) {
  return {name, dtype, std::move(shape), [bytes](const auto& append) {
            return append(bytes.data(), static_cast<int64_t>(bytes.size()));
          }};
}

std::string BytesOf(const TensorEntry& tensor) {
  return {reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size()};
}

class SafetensorsTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name = "file.safetensors") const {
    return JoinPath(folder_.path(), name);
  }

  // Writes length, header and `data` as they are given.
  absl::Status OpenRaw(const std::string& header, const std::string& data) {
    const uint64_t length = header.size();
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    return OpenBytes(bytes + header + data);
  }
  absl::Status OpenBytes(const std::string& bytes) {
    auto file = fs_.Create(Path());
    CHECK((*file)->Append(bytes.data(), static_cast<int64_t>(bytes.size())).ok());
    CHECK((*file)->Close().ok());
    return SafetensorsFile::Open(fs_, Path()).status();
  }

  void ExpectRefused(const absl::Status& status, const std::string& reason) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(Message(status),
                HasSubstr(absl::StrCat("'", Path(), "' is not a valid safetensors file: ")));
    EXPECT_THAT(Message(status), HasSubstr(reason));
  }

  TemporaryFolder folder_;
  FileSystem& fs_ = FileSystem::Posix();
};

TEST_F(SafetensorsTest, ReadsWhatWasWritten) {
  const std::vector<TensorToWrite> tensors = {
      Tensor("z", "F32", {2, 3}, std::string("abcdefghijklmnopqrstuvwx")),
      Tensor("scalar", "I64", {}, "12345678"), Tensor("empty", "F32", {0, 4}, ""),
      Tensor("a \"quoted\" näme", "BF16", {3}, "ABCDEF")};
  const auto written = WriteSafetensors(fs_, Path(), tensors, {{"format", "pt"}, {"step", "12"}});
  ASSERT_TRUE(written.ok()) << written.status();
  const auto file = SafetensorsFile::Open(fs_, Path());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->path(), Path());
  EXPECT_EQ(file->metadata(),
            (std::map<std::string, std::string>{{"format", "pt"}, {"step", "12"}}));
  ASSERT_EQ(file->tensors().size(), 4U);
  EXPECT_EQ(file->tensors()[0].name, "z") << "in the order they were written";
  EXPECT_EQ(BytesOf(*file->Find("z")), "abcdefghijklmnopqrstuvwx");
  EXPECT_THAT(file->Find("z")->shape, ElementsAre(2, 3));
  EXPECT_EQ(BytesOf(*file->Find("scalar")), "12345678");
  EXPECT_TRUE(file->Find("scalar")->shape.empty());
  EXPECT_TRUE(file->Find("empty")->data.empty());
  EXPECT_EQ(BytesOf(*file->Find("a \"quoted\" näme")), "ABCDEF");
  EXPECT_EQ(file->Find("nothing"), nullptr);
}

TEST_F(SafetensorsTest, DataBeginAtAMultipleOf64) {
  for (size_t length = 1; length < 70; ++length) {
    ASSERT_TRUE(
        WriteSafetensors(fs_, Path(), {Tensor(std::string(length, 'n'), "F32", {1}, "abcd")}, {})
            .ok());
    const auto file = SafetensorsFile::Open(fs_, Path());
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(file->tensors()[0].data.data()) % 64, 0U);
    EXPECT_EQ(*fs_.FileSize(Path()) % 64, 4);
  }
}

TEST_F(SafetensorsTest, NoTensorsIsAFileToo) {
  ASSERT_TRUE(WriteSafetensors(fs_, Path(), {}, {}).ok());
  const auto file = SafetensorsFile::Open(fs_, Path());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->tensors().empty());
}

// Parts smaller and larger than what is gathered before it is passed on.
TEST_F(SafetensorsTest, TellsSizeAndChecksumOfTheWholeFile) {
  std::string data((size_t{5} << 20) + 12, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 2654435761U >> 9);
  const auto size = static_cast<int64_t>(data.size());
  const TensorToWrite tensor = {"t", "U8", {size}, [&](const auto& append) {
                                  int64_t at = 0;
                                  for (int64_t part = 1; at < size; part = part * 3 + 1) {
                                    const int64_t bytes = std::min(part, size - at);
                                    RETURN_IF_ERROR(append(data.data() + at, bytes));
                                    at += bytes;
                                  }
                                  return absl::OkStatus();
                                }};
  const auto written = WriteSafetensors(fs_, Path(), {tensor, Tensor("u", "U8", {3}, "end")}, {});
  ASSERT_TRUE(written.ok()) << written.status();
  const auto mapped = fs_.Map(Path());
  const auto bytes = (*mapped)->bytes();
  EXPECT_EQ(written->bytes, static_cast<int64_t>(bytes.size()));
  EXPECT_EQ(written->checksum, ChecksumOf(bytes.data(), static_cast<int64_t>(bytes.size())));
  const auto file = SafetensorsFile::Open(fs_, Path());
  EXPECT_TRUE(BytesOf(*file->Find("t")) == data);
  EXPECT_EQ(BytesOf(*file->Find("u")), "end");
}

TEST_F(SafetensorsTest, PassesOnTheErrorOfAnyCall) {
  FaultyFileSystem whole(fs_, JoinPath(folder_.path(), "scratch"));
  const std::vector<TensorToWrite> tensors = {Tensor("t", "U8", {3}, "abc")};
  ASSERT_TRUE(WriteSafetensors(whole, Path(), tensors, {}).ok());
  for (int64_t call = 1; call <= whole.calls(); ++call) {
    FaultyFileSystem faulty(fs_, JoinPath(folder_.path(), "scratch"));
    faulty.FailAt(call, absl::ResourceExhaustedError("no space (made up)"));
    EXPECT_EQ(Message(WriteSafetensors(faulty, Path(), tensors, {}).status()),
              "no space (made up)");
  }
}

TEST_F(SafetensorsTest, PassesOnTheErrorOfATensorsWriter) {
  const TensorToWrite tensor = {
      "t", "U8", {1}, [](const auto&) { return absl::AbortedError("stopped"); }};
  EXPECT_EQ(Message(WriteSafetensors(fs_, Path(), {tensor}, {}).status()), "stopped");
}

TEST_F(SafetensorsTest, RefusesMetadataThatIsNotUtf8) {
  const absl::Status status = WriteSafetensors(fs_, Path(), {}, {{"key", "\xff"}}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), AllOf(HasSubstr(Path()), HasSubstr("not UTF-8")));
}

TEST_F(SafetensorsTest, NamesAMissingFile) {
  const absl::Status status = SafetensorsFile::Open(fs_, Path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(status), HasSubstr(Path()));
}

TEST_F(SafetensorsTest, AcceptsTensorsInAnyOrderOfTheHeader) {
  ASSERT_TRUE(OpenRaw(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},
                          "none":{"dtype":"U8","shape":[0],"data_offsets":[1,1]},
                          "a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                      "xyz")
                  .ok());
  const auto file = SafetensorsFile::Open(fs_, Path());
  EXPECT_EQ(file->tensors()[0].name, "a");
  EXPECT_EQ(file->tensors()[1].name, "none");
  EXPECT_EQ(BytesOf(*file->Find("b")), "yz");
}

TEST_F(SafetensorsTest, RefusesALengthThatDoesNotFit) {
  ExpectRefused(OpenBytes(""), "it has 0 bytes, at least 8");
  ExpectRefused(OpenBytes("1234567"), "it has 7 bytes, at least 8");
  ExpectRefused(OpenBytes(std::string("\x10\0\0\0\0\0\0\0{}", 10)),
                "its header has 16 bytes, only 2 follow: it is cut short");
  ExpectRefused(OpenBytes("not safetensors at all"), "not a safetensors file?");
}

TEST_F(SafetensorsTest, RefusesAHeaderThatIsNotAnObject) {
  ExpectRefused(OpenRaw("", ""), "not valid JSON");
  ExpectRefused(OpenRaw("{\"a\":", ""), "not valid JSON");
  ExpectRefused(OpenRaw("{}x", ""), "not valid JSON");
  ExpectRefused(OpenRaw("{\"\xff\":{}}", ""), "not valid JSON");
  ExpectRefused(OpenRaw(std::string(100'000, '['), ""), "not valid JSON");
  ExpectRefused(OpenRaw("[1]", ""), "not a JSON object");
}

TEST_F(SafetensorsTest, RefusesANameTwice) {
  ExpectRefused(OpenRaw(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                            "a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                        "x"),
                "'a' appears twice");
  ExpectRefused(
      OpenRaw(R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", "x"),
      "'dtype' appears twice");
}

std::string Repeated(const std::string& text, int times) {
  std::string repeated;
  for (int i = 0; i < times; ++i) repeated += text;
  return repeated;
}

// Deeper than a thread's stack could follow.
TEST_F(SafetensorsTest, ReadsAHeaderOfAnyDepth) {
  constexpr int kDepth = 300'000;
  const std::string lists = Repeated("[", kDepth) + Repeated("]", kDepth);
  const std::string objects = Repeated(R"({"a":)", kDepth) + "1" + Repeated("}", kDepth);
  for (const std::string& deep : {lists, objects}) {
    ExpectRefused(OpenRaw(R"({"b":)" + deep + "}", ""), "tensor 'b'");
    const std::string entry = R"("dtype":"U8","shape":[1],"data_offsets":[0,1],"more":)" + deep;
    EXPECT_TRUE(OpenRaw(R"({"b":{)" + entry + "}}", "x").ok());
    // What comes after it is told apart as before.
    ExpectRefused(OpenRaw(R"({"b":{)" + entry + R"(,"dtype":"U8"}})", "x"),
                  "'dtype' appears twice");
    ExpectRefused(OpenRaw(R"({"b":{)" + entry + R"(},"b":3})", "x"), "'b' appears twice");
  }
}

TEST_F(SafetensorsTest, RefusesAMalformedTensor) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"a":3})", "tensor 'a': is not described by a JSON object"},
      {R"({"a":{"shape":[1],"data_offsets":[0,1]}})", "tensor 'a': has no dtype"},
      {R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", "tensor 'a': has no dtype"},
      {R"({"a":{"dtype":"Q4","shape":[1],"data_offsets":[0,1]}})",
       "tensor 'a': unknown dtype 'Q4'"},
      {R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", "shape is not a list of sizes"},
      {R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", "shape is not a list of sizes"},
      {R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", "shape is not a list of sizes"},
      {R"({"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}})",
       "shape is not a list of sizes"},
      {R"({"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]}})",
       "shape is not a list of sizes"},
      {R"({"a":{"dtype":"U8","shape":[1]}})", "data_offsets is not [begin, end]"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1]}})",
       "data_offsets is not [begin, end]"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})",
       "data_offsets is not [begin, end]"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":["0",1]}})",
       "data_offsets is not [begin, end]"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1]}})",
       "tensor 'a': F32 [1] takes 4 bytes, its data_offsets [0, 1] hold 1"},
      {R"({"a":{"dtype":"F32","shape":[4294967296, 4294967296],"data_offsets":[0,0]}})",
       "tensor 'a': F32 [4294967296, 4294967296] is too large"},
  };
  for (const auto& [header, reason] : cases) ExpectRefused(OpenRaw(header, "x"), reason);
}

TEST_F(SafetensorsTest, RefusesDataThatDoNotLineUp) {
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + a +
           R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + b + "}}";
  };
  ExpectRefused(OpenRaw(two("[0,2]", "[1,3]"), "xyz"),
                "tensor 'b': overlaps another one: its bytes begin at 1, those before it end at 2");
  ExpectRefused(OpenRaw(two("[0,2]", "[3,5]"), "vwxyz"),
                "tensor 'b': leaves a gap: its bytes begin at 3, those before it end at 2");
  ExpectRefused(OpenRaw(two("[1,3]", "[3,5]"), "vwxyz"), "tensor 'a': leaves a gap");
  ExpectRefused(OpenRaw(two("[0,2]", "[2,4]"), "xyz"),
                "the header describes 4 bytes of data, the file holds 3: it is cut short");
  ExpectRefused(OpenRaw(two("[0,2]", "[2,4]"), "vwxyz"),
                "the header describes 4 bytes of data, the file holds 5");
}

TEST_F(SafetensorsTest, RefusesMetadataThatIsNotText) {
  ExpectRefused(OpenRaw(R"({"__metadata__":3})", ""), "__metadata__ is not a JSON object");
  ExpectRefused(OpenRaw(R"({"__metadata__":{"step":3}})", ""),
                "__metadata__ 'step' is not a string");
}

TEST_F(SafetensorsTest, RefusesEveryTruncation) {
  ASSERT_TRUE(
      WriteSafetensors(fs_, Path("whole"), {Tensor("t", "F32", {2}, "abcdefgh")}, {{"k", "v"}})
          .ok());
  const std::string bytes = *fs_.ReadText(Path("whole"));
  for (size_t size = 0; size < bytes.size(); ++size)
    ExpectRefused(OpenBytes(bytes.substr(0, size)), "");
  EXPECT_TRUE(OpenBytes(bytes).ok());
}

TEST(SafetensorsElementSize, KnowsTheFormatsDtypes) {
  EXPECT_EQ(SafetensorsElementSize("F64"), 8);
  EXPECT_EQ(SafetensorsElementSize("U64"), 8);
  EXPECT_EQ(SafetensorsElementSize("F32"), 4);
  EXPECT_EQ(SafetensorsElementSize("I32"), 4);
  EXPECT_EQ(SafetensorsElementSize("BF16"), 2);
  EXPECT_EQ(SafetensorsElementSize("F16"), 2);
  EXPECT_EQ(SafetensorsElementSize("U16"), 2);
  EXPECT_EQ(SafetensorsElementSize("BOOL"), 1);
  EXPECT_EQ(SafetensorsElementSize("F8_E4M3"), 1);
  EXPECT_EQ(SafetensorsElementSize("f32"), 0);
  EXPECT_EQ(SafetensorsElementSize(""), 0);
}

using SafetensorsDeathTest = SafetensorsTest;

TEST_F(SafetensorsDeathTest, AWriterMustAppendExactlyItsTensor) {
  EXPECT_DEATH(
      WriteSafetensors(fs_, Path(), {Tensor("t", "U8", {3}, "ab")}, {}).status().IgnoreError(),
      "2 vs 3 bytes of t");
  EXPECT_DEATH(
      WriteSafetensors(fs_, Path(), {Tensor("t", "U8", {1}, "a"), Tensor("t", "U8", {1}, "a")}, {})
          .IgnoreError(),
      "'t' twice");
  EXPECT_DEATH(
      WriteSafetensors(fs_, Path(), {Tensor("t", "Q4", {1}, "a")}, {}).status().IgnoreError(),
      "dtype Q4 has no size");
}

}  // namespace
}  // namespace entrain
