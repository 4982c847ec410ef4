#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "parallel/checkpoint.h"
#include "parallel/checkpoint_folder.h"
#include "parallel/tensor_box.h"
#include "runtime/io/manifest.h"
#include "runtime/io/safetensors.h"
#include "tests/support/sample_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// A tensor in memory: element i (row-major) of the whole has the value offset + i.
class Whole {
 public:
  Whole(std::string name, std::vector<int64_t> shape, float offset)
      : name_(std::move(name)), shape_(std::move(shape)) {
    values_.resize(static_cast<size_t>(box().elements()));
    std::iota(values_.begin(), values_.end(), offset);
  }

  const std::string& name() const { return name_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  TensorBox box() const { return TensorBox::Cut(shape_, -1, 0); }

  // The values of a part, taken by the definition of its box.
  std::vector<float> Part(const TensorBox& part) const {
    std::vector<float> values;
    for (size_t i = 0; i < values_.size(); ++i) {
      auto rest = static_cast<int64_t>(i);
      bool inside = true;
      for (size_t dim = shape_.size(); dim-- > 0; rest /= shape_[dim]) {
        const int64_t at = rest % shape_[dim] - part.begin[dim];
        inside = inside && at >= 0 && at < part.shape[dim];
      }
      if (inside) values.push_back(values_[i]);
    }
    return values;
  }

 private:
  std::string name_;
  std::vector<int64_t> shape_;
  std::vector<float> values_;
};

std::vector<int64_t> WithSize(std::vector<int64_t> shape, int dim, int64_t size) {
  shape.at(static_cast<size_t>(dim)) = size;
  return shape;
}

// Composes a checkpoint of several shards, as several ranks would.
class Composer {
 public:
  Composer(FileSystem& fs, std::string folder) : fs_(fs), folder_(std::move(folder)) {
    CHECK(fs_.MakeDirectories(folder_).ok());
    index_.step = 77;
  }

  // Cuts the tensor along `dim` so that shard i gets sizes[i] rows (0: no piece); dim −1: shard 0 holds it all.
  void Add(const Whole& tensor, int dim, const std::vector<int64_t>& sizes) {
    IndexedTensor indexed{tensor.name(), "F32", tensor.shape(), {}, {}};
    if (dim < 0 && tensor.box().elements() > 0) AddPiece(tensor, indexed, 0, tensor.box());
    int64_t begin = 0;
    for (size_t shard = 0; dim >= 0 && shard < sizes.size(); ++shard) {
      if (sizes[shard] == 0) continue;
      AddPiece(tensor, indexed, shard,
               TensorBox::Cut(WithSize(tensor.shape(), dim, sizes[shard]), dim, begin));
      begin += sizes[shard];
    }
    index_.tensors.push_back(std::move(indexed));
  }

  TensorIndex& index() { return index_; }

  void Commit() {
    std::vector<ManifestFile> files;
    for (auto& [shard, tensors] : shards_) {
      const WrittenFile written =
          WriteSafetensors(fs_, JoinPath(folder_, Name(shard)), tensors, {}).value();
      files.push_back({Name(shard), written.bytes, written.checksum});
    }
    for (const auto& [name, text] :
         std::map<std::string, std::string>{{kTensorIndexName, FormatTensorIndex(index_)},
                                            {kStateName, "{}"},
                                            {kConfigName, ""}}) {
      if (name == left_out_) continue;
      CHECK(WriteTextSynced(fs_, JoinPath(folder_, name), text).ok());
      const auto bytes = static_cast<int64_t>(text.size());
      files.push_back({name, bytes, ChecksumOf(text.data(), bytes)});
    }
    CHECK(CommitCheckpoint(fs_, folder_, index_.step, {}, std::move(files)).ok());
  }

  void LeaveOut(const std::string& name) { left_out_ = name; }
  static std::string Name(size_t shard) { return ShardName(static_cast<int>(shard), 3); }

 private:
  void AddPiece(const Whole& tensor, IndexedTensor& indexed, size_t shard, const TensorBox& box) {
    const std::vector<float> values = tensor.Part(box);
    shards_[shard].push_back(
        {PieceKey(indexed, box), "F32", box.shape, [values](const auto& append) {
           return append(values.data(), static_cast<int64_t>(values.size() * sizeof(float)));
         }});
    indexed.pieces.push_back({Name(shard), box});
  }

  FileSystem& fs_;
  std::string folder_;
  std::string left_out_;
  TensorIndex index_;
  std::map<size_t, std::vector<TensorToWrite>> shards_;
};

class CheckpointReaderTest : public ::testing::Test {
 protected:
  // Reads the part of `tensor` that begins at `begin` of `dim` and has `size` rows.
  std::vector<float> Read(const CheckpointReader& reader, const Whole& tensor, int dim,
                          int64_t begin, int64_t size) {
    const std::vector<int64_t> shape =
        dim < 0 ? tensor.shape() : WithSize(tensor.shape(), dim, size);
    std::vector<float> values(static_cast<size_t>(TensorBox::Cut(shape, dim, begin).elements()),
                              -1.0F);
    const absl::Status read = reader.Read(
        {{tensor.name(), tensor.shape(), {}, TensorBox::Cut(shape, dim, begin), values.data()}},
        /*ignore_unread=*/true);
    EXPECT_TRUE(read.ok()) << read;
    return values;
  }

  TemporaryFolder root_{TemporaryFolder::FastPlace()};
  FileSystem& fs_ = FileSystem::Posix();
  std::string folder_ = JoinPath(root_.path(), "step_00000077");
  Composer composer_{fs_, folder_};
};

TEST_F(CheckpointReaderTest, TellsWhatIsInIt) {
  composer_.Add(Whole("w", {4, 6}, 0), 0, {3, 1});
  composer_.Add(Whole("b", {6}, 0), -1, {});
  composer_.Commit();
  const auto reader = CheckpointReader::Open(fs_, folder_);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->step(), 77);
  EXPECT_EQ(reader->path(), folder_);
  EXPECT_EQ(reader->state_json(), "{}");
  EXPECT_EQ(reader->config_toml(), "");
  ASSERT_EQ(reader->tensors().size(), 2U);
  EXPECT_EQ(reader->tensors()[0].name, "w");
  EXPECT_EQ(reader->tensors()[0].global_shape, (std::vector<int64_t>{4, 6}));
}

// Saved under every cut of three shards, read under every cut.
TEST_F(CheckpointReaderTest, AssemblesAnyCutFromAnyOther) {
  const Whole tensor("w", {5, 4, 3}, 100);
  int saved = 0;
  for (int cut = -1; cut < 3; ++cut) {
    const int64_t size = cut < 0 ? 1 : tensor.shape()[static_cast<size_t>(cut)];
    for (int64_t first = 0; first <= size; ++first) {
      for (int64_t second = 0; first + second <= size; ++second) {
        if (cut < 0 && first + second > 0) continue;
        const std::string folder = JoinPath(root_.path(), std::to_string(saved++));
        Composer composer(fs_, folder);
        composer.Add(tensor, cut, {first, second, size - first - second});
        composer.Commit();
        const auto reader = CheckpointReader::Open(fs_, folder);
        ASSERT_TRUE(reader.ok()) << reader.status();
        for (int dim = -1; dim < 3; ++dim) {
          const int64_t rows = dim < 0 ? 1 : tensor.shape()[static_cast<size_t>(dim)];
          for (int64_t begin = 0; begin < rows; ++begin) {
            const std::vector<int64_t> shape =
                dim < 0 ? tensor.shape() : WithSize(tensor.shape(), dim, rows - begin);
            ASSERT_EQ(Read(*reader, tensor, dim, begin, rows - begin),
                      tensor.Part(TensorBox::Cut(shape, dim, begin)));
          }
        }
      }
    }
  }
}

TEST_F(CheckpointReaderTest, ReadsScalarsAndEmptyTensors) {
  const Whole scalar("scalar", {}, 5);
  const Whole empty("empty", {0, 2}, 0);
  composer_.Add(scalar, -1, {});
  composer_.Add(empty, -1, {});
  composer_.Commit();
  const auto reader = CheckpointReader::Open(fs_, folder_);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(Read(*reader, scalar, -1, 0, 0), std::vector<float>{5});
  EXPECT_TRUE(Read(*reader, empty, -1, 0, 0).empty());
}

TEST_F(CheckpointReaderTest, NothingIsSilentlyDropped) {
  for (const char* name : {"a", "b", "c", "d", "e"}) composer_.Add(Whole(name, {2}, 1), -1, {});
  composer_.Commit();
  const auto reader = CheckpointReader::Open(fs_, folder_);
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::vector<float> values(2, -1.0F);
  const StateTensor a = WholeTensor("a", {2}, values.data());
  const StateTensor x = WholeTensor("x", {2}, values.data());

  const absl::Status unread = reader->Read({a});
  EXPECT_EQ(unread.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Message(unread),
            "checkpoint '" + folder_ +
                "' is of another model: it has 'b', 'c', 'd' and 1 more, which this "
                "model has not; use the configuration it was saved with");
  EXPECT_EQ(values[0], -1.0F) << "nothing is filled";

  const absl::Status missing = reader->Read({a, x}, /*ignore_unread=*/true);
  EXPECT_EQ(missing.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(missing), HasSubstr("is of another model: it has no 'x'; use"));
  EXPECT_EQ(values[0], -1.0F) << "nothing is filled";

  EXPECT_TRUE(reader->Read({a}, /*ignore_unread=*/true).ok());
  EXPECT_EQ(values[1], 2.0F);
}

TEST_F(CheckpointReaderTest, RefusesAnotherShape) {
  composer_.Add(Whole("w", {4, 6}, 0), -1, {});
  composer_.Commit();
  const auto reader = CheckpointReader::Open(fs_, folder_);
  std::vector<float> values(24);
  const absl::Status status = reader->Read({WholeTensor("w", {6, 4}, values.data())});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status), AllOf(HasSubstr("checkpoint '" + folder_ +
                                               "': 'w' has shape [4, 6], this model has [6, 4]")));
}

TEST_F(CheckpointReaderTest, RefusesAnIndexThatDoesNotFitTheShards) {
  composer_.Add(Whole("w", {4, 6}, 0), 0, {3, 1});
  composer_.index().tensors[0].pieces[0].box.shape = {2, 6};
  composer_.index().tensors[0].pieces[1] = {Composer::Name(1), {{2, 0}, {2, 6}}};
  composer_.Commit();
  const absl::Status status = CheckpointReader::Open(fs_, folder_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), HasSubstr("shard_00000_of_00003.safetensors' does not hold "
                                         "'w[0:2, 0:6]' as F32 [2, 6], as tensors.json says"));
}

TEST_F(CheckpointReaderTest, RefusesPiecesThatDoNotMakeUpTheTensor) {
  composer_.Add(Whole("w", {4, 6}, 0), 0, {3, 1});
  composer_.index().tensors[0].pieces.pop_back();
  composer_.Commit();
  const absl::Status status = CheckpointReader::Open(fs_, folder_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(
      Message(status),
      HasSubstr("tensors.json': tensor 'w' of shape [4, 6]: its 1 pieces hold 18 of 24 elements"));
}

TEST_F(CheckpointReaderTest, ReadsOnlyWhatTheManifestVouchesFor) {
  composer_.Add(Whole("w", {2}, 0), -1, {});
  for (const char* name : {kTensorIndexName, kStateName, kConfigName}) {
    composer_.LeaveOut(name);
    composer_.Commit();
    EXPECT_THAT(Message(CheckpointReader::Open(fs_, folder_).status()),
                HasSubstr(std::string("its manifest does not list ") + name));
  }
  composer_.LeaveOut("");
  composer_.index().tensors[0].pieces[0].file = "elsewhere.safetensors";
  composer_.Commit();
  EXPECT_THAT(Message(CheckpointReader::Open(fs_, folder_).status()),
              HasSubstr("its manifest does not list elsewhere.safetensors"));
}

TEST_F(CheckpointReaderTest, NamesAFolderThatIsNone) {
  const absl::Status status =
      CheckpointReader::Open(fs_, JoinPath(root_.path(), "nothing")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(status), HasSubstr("nothing' was never committed"));
}

}  // namespace
}  // namespace entrain
