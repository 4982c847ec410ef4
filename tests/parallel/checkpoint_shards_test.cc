// Checkpoints that several ranks write together: any cut of any view is read under any other, and what the ranks give must
// fit together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/checkpoint.h"
#include "parallel/checkpoint_folder.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/local_ranks.h"
#include "tests/support/sample_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Shape = std::vector<int64_t>;

constexpr RetentionPolicy kKeepTwo = {2, 0};

class Draw {
 public:
  explicit Draw(uint32_t seed) : random_(seed) {}

  int64_t Below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }

  Shape SomeShape() {
    Shape shape(static_cast<size_t>(Below(4)));
    for (int64_t& size : shape) size = Below(12) == 0 ? 0 : 1 + Below(12);
    return shape;
  }

  // The same elements under another shape: dims joined and split at random.
  Shape SomeView(Shape shape) {
    for (int64_t changes = Below(6); changes > 0 && !shape.empty(); --changes) {
      const auto dim = static_cast<size_t>(Below(static_cast<int64_t>(shape.size())));
      const auto at = shape.begin() + static_cast<std::ptrdiff_t>(dim);
      if (Below(2) == 0 && dim + 1 < shape.size()) {
        *at *= *(at + 1);
        shape.erase(at + 1);
      } else {
        const int64_t inner = shape[dim] == 0 ? 1 + Below(3) : std::gcd(shape[dim], 1 + Below(12));
        *at /= inner;
        shape.insert(at + 1, inner);
      }
    }
    return shape;
  }

  // Boxes that make up `box` exactly once: it is cut in two, and so on.
  std::vector<TensorBox> SomeCut(const TensorBox& box) {
    const auto dim =
        box.shape.empty() ? 0 : static_cast<size_t>(Below(static_cast<int64_t>(box.shape.size())));
    if (box.shape.empty() || Below(3) == 0 || box.shape[dim] < 1) return {box};
    TensorBox left = box;
    TensorBox right = box;
    left.shape[dim] = Below(box.shape[dim] + 1);  // either may be empty
    right.begin[dim] += left.shape[dim];
    right.shape[dim] -= left.shape[dim];
    std::vector<TensorBox> boxes = SomeCut(left);
    for (TensorBox& other : SomeCut(right)) boxes.push_back(std::move(other));
    return boxes;
  }

 private:
  std::mt19937 random_;
};

// Parts of tensors with their memory.
struct Parts {
  std::vector<StateTensor> tensors;
  std::vector<std::vector<float>> values;

  void Add(const std::string& name, const Shape& shape, const Shape& view, const TensorBox& box) {
    values.emplace_back(static_cast<size_t>(box.elements()) + 1, -1.0F);
    tensors.push_back({name, shape, view, box, values.back().data()});
  }
};

// What element `flat` of the whole tensor holds.
float ValueOf(size_t tensor, int64_t flat) {
  return static_cast<float>(tensor * 10'000) + static_cast<float>(flat);
}

// Index within the whole tensor of the i-th element of the box, by the definition of row-major order.
int64_t FlatIndex(const Shape& view, const TensorBox& box, int64_t i) {
  int64_t flat = 0;
  int64_t stride = 1;
  for (size_t dim = view.size(); dim-- > 0;) {
    flat += (box.begin[dim] + i % box.shape[dim]) * stride;
    i /= box.shape[dim];
    stride *= view[dim];
  }
  return flat;
}

void FillByDefinition(size_t tensor, const StateTensor& part) {
  for (int64_t i = 0; i < part.box.elements(); ++i) {
    part.data[i] = ValueOf(tensor, FlatIndex(part.viewed_shape(), part.box, i));
  }
}

int64_t WrongElements(size_t tensor, const StateTensor& part) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < part.box.elements(); ++i) {
    wrong += part.data[i] != ValueOf(tensor, FlatIndex(part.viewed_shape(), part.box, i));
  }
  return wrong;
}

class CheckpointShardsTest : public ::testing::Test {
 protected:
  // Each rank saves its part; the status of all.
  absl::Status Save(std::vector<CheckpointContents> contents) {
    std::vector<absl::Status> statuses(contents.size());
    RunLocalRanks(static_cast<int>(contents.size()), [&](Communicator& world) {
      const auto rank = static_cast<size_t>(world.rank());
      statuses[rank] = CheckpointStore(fs_, folder_).Save(world, contents[rank], kKeepTwo).status();
    });
    for (const absl::Status& status : statuses) EXPECT_EQ(status, statuses[0]);
    return statuses[0];
  }

  // Rank r gives boxes[r] of one tensor of shape [4, 6].
  absl::Status SaveBoxes(const std::vector<std::vector<TensorBox>>& boxes) {
    std::vector<CheckpointContents> contents(boxes.size());
    for (size_t rank = 0; rank < boxes.size(); ++rank) {
      for (const TensorBox& box : boxes[rank]) {
        contents[rank].tensors.push_back({"w", {4, 6}, {}, box, values_.data()});
      }
    }
    return Save(contents);
  }

  TemporaryFolder root_{TemporaryFolder::FastPlace()};
  std::string folder_ = JoinPath(root_.path(), "checkpoints");
  FaultyFileSystem fs_{FileSystem::Posix(), JoinPath(root_.path(), "scratch")};
  std::vector<float> values_ = std::vector<float>(24, 1.0F);
};

// Tensors, views, cuts and who writes and reads what: all drawn. The cut of each tensor is drawn for every reader anew.
TEST_F(CheckpointShardsTest, AnyCutOfAnyViewIsReadUnderAnyOther) {
  int64_t pieces_written = 0;
  for (uint32_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    Draw draw(seed);
    const int64_t writers = 1 + draw.Below(6);
    std::vector<Shape> shapes(static_cast<size_t>(1 + draw.Below(5)));
    std::vector<Parts> written(static_cast<size_t>(writers));
    for (size_t t = 0; t < shapes.size(); ++t) {
      shapes[t] = draw.SomeShape();
      const Shape view = draw.SomeView(shapes[t]);
      for (const TensorBox& box : draw.SomeCut(TensorBox::Whole(view))) {
        Parts& parts = written[static_cast<size_t>(draw.Below(writers))];
        parts.Add(absl::StrCat("t", t), shapes[t], view, box);
        FillByDefinition(t, parts.tensors.back());
        ++pieces_written;
      }
    }
    std::vector<CheckpointContents> contents(written.size());
    for (size_t rank = 0; rank < written.size(); ++rank) {
      contents[rank].step = seed;
      contents[rank].tensors = written[rank].tensors;
    }
    const absl::Status saved = Save(contents);
    ASSERT_TRUE(saved.ok()) << saved;
    const std::string path = JoinPath(folder_, CheckpointName(seed));

    for (int reader = 0; reader < 4; ++reader) {
      Parts read;
      std::vector<size_t> of;
      for (size_t t = 0; t < shapes.size(); ++t) {
        const Shape view = draw.SomeView(shapes[t]);
        for (const TensorBox& box : draw.SomeCut(TensorBox::Whole(view))) {
          if (reader > 0 && draw.Below(2) == 0) continue;  // a rank of several
          read.Add(absl::StrCat("t", t), shapes[t], view, box);
          of.push_back(t);
        }
      }
      const auto opened = CheckpointReader::Open(
          fs_, path, reader % 2 == 0 ? Verification::kEverything : Verification::kWhatIsRead);
      ASSERT_TRUE(opened.ok()) << opened.status();
      const absl::Status status = opened->Read(read.tensors, /*ignore_unread=*/reader > 0);
      ASSERT_TRUE(status.ok()) << status;
      for (size_t i = 0; i < of.size(); ++i) {
        ASSERT_EQ(WrongElements(of[i], read.tensors[i]), 0) << read.tensors[i].name;
        ASSERT_EQ(read.values[i].back(), -1.0F) << "nothing past the end is touched";
      }
    }
  }
  EXPECT_GT(pieces_written, 1500);
}

TEST_F(CheckpointShardsTest, RanksWithNothingToWriteMakeNoFile) {
  ASSERT_TRUE(SaveBoxes({{}, {{{0, 0}, {4, 6}}}, {{{2, 3}, {0, 3}}}}).ok());
  std::vector<std::string> names;
  const std::vector<DirEntry> entries = fs_.List(JoinPath(folder_, CheckpointName(0))).value();
  for (const DirEntry& entry : entries) names.push_back(entry.name);
  EXPECT_THAT(names, ElementsAre("config.toml", "manifest.json", "shard_00001_of_00003.safetensors",
                                 "state.json", "tensors.json"));
}

TEST_F(CheckpointShardsTest, TellsHowTensorsAreCut) {
  ASSERT_TRUE(SaveBoxes({{{{0, 0}, {4, 2}}}, {{{0, 2}, {1, 4}}, {{1, 2}, {3, 4}}}}).ok());
  const auto reader = CheckpointReader::Open(fs_, JoinPath(folder_, CheckpointName(0)));
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->num_shards(), 2);
  EXPECT_EQ(reader->tensors()[0].cut, "3 pieces of [1, 4] to [3, 4]");
}

TEST_F(CheckpointShardsTest, WhatDoesNotFitTogetherIsRefusedBeforeTheDiskIsTouched) {
  const TensorBox top = {{0, 0}, {2, 6}};
  const TensorBox bottom = {{2, 0}, {2, 6}};
  const TensorBox middle = {{1, 0}, {2, 6}};
  const std::pair<std::vector<std::vector<TensorBox>>, const char*> cases[] = {
      {{{top}, {}}, "tensor 'w' of shape [4, 6]: its 1 pieces hold 12 of 24 elements"},
      {{{}, {TensorBox{{0, 0}, {0, 6}}}}, "tensor 'w' of shape [4, 6]: it has no pieces"},
      {{{top}, {middle}},
       "the pieces [0:2, 0:6] in shard_00000_of_00002.safetensors and [1:3, 0:6] in "
       "shard_00001_of_00002.safetensors overlap"},
      {{{top, bottom}, {bottom}}, "overlap"},
      {{{top, bottom}, {}, {top, bottom}}, "overlap"},
      {{{top, top, bottom}}, "overlap"},
  };
  for (const auto& [boxes, reason] : cases) {
    const absl::Status status = SaveBoxes(boxes);
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("the ranks' tensors are not a checkpoint: "), HasSubstr(reason)));
  }
  EXPECT_EQ(fs_.calls(), 0);
}

TEST_F(CheckpointShardsTest, RanksMustTellTheSameOfATensor) {
  const TensorBox top = {{0, 0}, {2, 6}};
  std::vector<CheckpointContents> contents(2);
  contents[0].tensors = {{"w", {4, 6}, {}, {{0, 0}, {2, 6}}, values_.data()}};
  contents[1].tensors = {{"w", {4, 6}, {4, 2, 3}, {{2, 0, 0}, {2, 2, 3}}, values_.data()}};
  EXPECT_THAT(std::string(Save(contents).message()),
              HasSubstr("of rank 1: tensor 'w' is [4, 6] viewed as [4, 6] and [4, 6] viewed as "
                        "[4, 2, 3] (rank 0)"));
  contents[1].tensors = {{"w", {4, 3}, {}, {{2, 0}, {2, 3}}, values_.data()}};
  EXPECT_THAT(std::string(Save(contents).message()), HasSubstr("and [4, 3] viewed as [4, 3]"));
  contents[1].step = 5;
  EXPECT_THAT(std::string(Save(contents).message()),
              HasSubstr("of rank 1: rank 0 saves step 0, it 5"));
}

// On nodes that each have a disk of their own a save fails with the reason, whichever folders are there.
TEST_F(CheckpointShardsTest, RanksMustShareTheFolder) {
  for (const bool there : {false, true}) {
    const std::string elsewhere = JoinPath(root_.path(), "elsewhere");
    if (there) {
      ASSERT_TRUE(fs_.MakeDirectories(JoinPath(elsewhere, "tmp_step_00000010")).ok());
    }
    std::vector<absl::Status> statuses(2);
    RunLocalRanks(2, [&](Communicator& world) {
      SampleCheckpoint sample(10);
      CheckpointStore store(fs_, world.rank() == 0 ? folder_ : elsewhere);
      statuses[static_cast<size_t>(world.rank())] =
          store.Save(world, sample.ContentsOf(world.rank(), 2), kKeepTwo).status();
    });
    EXPECT_EQ(statuses[0], statuses[1]);
    EXPECT_THAT(std::string(statuses[0].message()),
                there ? AllOf(HasSubstr("shard_00001_of_00002.safetensors' was written by another "
                                        "rank, and the first one sees no such file"),
                              HasSubstr("a file system that all nodes share (rank 0)"))
                      : AllOf(HasSubstr(elsewhere), HasSubstr("(rank 1)")));
    EXPECT_TRUE(fs_.List(folder_)->empty()) << "what was written is removed";
  }
}

TEST_F(CheckpointShardsTest, SpaceForAllRanksIsCheckedTogether) {
  fs_.PretendFreeSpace(400 << 10);  // enough for each
  std::vector<std::vector<float>> values(3, std::vector<float>(50'000));
  std::vector<CheckpointContents> contents(3);
  for (int64_t rank = 0; rank < 3; ++rank) {
    const auto r = static_cast<size_t>(rank);
    contents[r].tensors = {{"w", {3, 50'000}, {}, {{rank, 0}, {1, 50'000}}, values[r].data()}};
  }
  const absl::Status status = Save(contents);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("no space for step_00000000"), HasSubstr("(rank 0)")));
  EXPECT_TRUE(fs_.List(folder_)->empty());
}

TEST_F(CheckpointShardsTest, AStepThatIsCommittedStaysForAllRanks) {
  for (const int ranks : {3, 2, 1}) {  // whoever saves it again
    for (const absl::Status& status : SaveSampleFromRanks(fs_, folder_, ranks, 10, kKeepTwo)) {
      EXPECT_TRUE(status.ok()) << status;
    }
  }
  const std::string path = JoinPath(folder_, CheckpointName(10));
  EXPECT_TRUE(fs_.Exists(JoinPath(path, ShardName(2, 3))).value());
  EXPECT_EQ(SampleCheckpoint::Difference(fs_, path, 10), "");
}

}  // namespace
}  // namespace entrain
