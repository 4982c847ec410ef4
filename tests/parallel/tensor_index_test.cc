#include "parallel/tensor_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace entrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// One tensor cut over two files, one that is not cut, one whose view is cut, one without elements.
TensorIndex Sample() {
  TensorIndex index;
  index.step = 12;
  index.tensors.push_back(
      {"w", "F32", {5, 2}, {}, {{"one", {{0, 0}, {3, 2}}}, {"two", {{3, 0}, {2, 2}}}}});
  index.tensors.push_back({"scale", "F32", {}, {}, {{"one", {}}}});
  index.tensors.push_back({"qkv",
                           "F32",
                           {2, 12},
                           {2, 3, 4},
                           {{"one", {{0, 0, 0}, {2, 3, 1}}}, {"two", {{0, 0, 1}, {2, 3, 3}}}}});
  index.tensors.push_back({"none", "F32", {0, 3}, {}, {}});
  return index;
}

TEST(TensorIndex, ReadsWhatItWrites) {
  const auto index = ParseTensorIndex(FormatTensorIndex(Sample()));
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->step, 12);
  ASSERT_EQ(index->tensors.size(), 4U);
  const IndexedTensor& tensor = index->tensors[0];
  EXPECT_EQ(tensor.name, "w");
  EXPECT_EQ(tensor.dtype, "F32");
  EXPECT_THAT(tensor.shape, ElementsAre(5, 2));
  ASSERT_EQ(tensor.pieces.size(), 2U);
  EXPECT_EQ(tensor.pieces[1].file, "two");
  EXPECT_THAT(tensor.pieces[1].box.begin, ElementsAre(3, 0));
  EXPECT_THAT(tensor.pieces[1].box.shape, ElementsAre(2, 2));
  EXPECT_THAT(tensor.viewed_shape(), ElementsAre(5, 2));
  EXPECT_THAT(index->tensors[2].shape, ElementsAre(2, 12));
  EXPECT_THAT(index->tensors[2].viewed_shape(), ElementsAre(2, 3, 4));
  EXPECT_TRUE(index->tensors[3].pieces.empty());
}

TEST(TensorIndex, WritesAViewOnlyWhereThereIsOne) {
  TensorIndex sample = Sample();
  sample.tensors.erase(sample.tensors.begin() + 2);
  EXPECT_THAT(FormatTensorIndex(sample), Not(HasSubstr("view")));
  sample.tensors[0].view = sample.tensors[0].shape;
  EXPECT_THAT(FormatTensorIndex(sample), Not(HasSubstr("view")));
}

TEST(TensorIndex, NamesAPieceByItsPartOfTheView) {
  const TensorIndex sample = Sample();
  const auto key = [&](int tensor, int piece) {
    const IndexedTensor& t = sample.tensors[static_cast<size_t>(tensor)];
    return PieceKey(t, t.pieces[static_cast<size_t>(piece)].box);
  };
  EXPECT_EQ(key(0, 1), "w[3:5, 0:2]");
  EXPECT_EQ(key(1, 0), "scale");
  EXPECT_EQ(key(2, 0), "qkv[0:2, 0:3, 0:1]");
}

TEST(TensorIndex, DescribesACut) {
  const TensorIndex sample = Sample();
  EXPECT_EQ(DescribeCut(sample.tensors[0]), "2 pieces of [2, 2] to [3, 2]");
  EXPECT_EQ(DescribeCut(sample.tensors[1]), "");
  EXPECT_EQ(DescribeCut(sample.tensors[2]), "2 pieces of [2, 3, 1] to [2, 3, 3] as [2, 3, 4]");
  EXPECT_EQ(DescribeCut(sample.tensors[3]), "");
  IndexedTensor even = sample.tensors[2];
  even.pieces = {{"one", {{0, 0, 0}, {2, 3, 2}}}, {"two", {{0, 0, 2}, {2, 3, 2}}}};
  EXPECT_EQ(DescribeCut(even), "2 pieces of [2, 3, 2] as [2, 3, 4]");
}

TEST(TensorIndex, SortsPieces) {
  TensorIndex sample = Sample();
  std::swap(sample.tensors[0].pieces[0], sample.tensors[0].pieces[1]);
  const auto index = ParseTensorIndex(FormatTensorIndex(sample));
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->tensors[0].pieces[0].file, "one");
}

TEST(TensorIndex, RefusesPiecesThatAreNotTheTensor) {
  using Change = std::function<void(IndexedTensor&)>;
  const std::pair<Change, const char*> cases[] = {
      {[](auto& w) { w.pieces.clear(); }, "it has no pieces"},
      {[](auto& w) { w.pieces.pop_back(); }, "its 1 pieces hold 6 of 10 elements"},
      {[](auto& w) { w.pieces[1].box.begin[0] = 2; },
       "the pieces [0:3, 0:2] in one and [2:4, 0:2] in two overlap"},
      {[](auto& w) { w.pieces[1] = w.pieces[0]; },
       "the pieces [0:3, 0:2] in one and [0:3, 0:2] in one overlap"},
      {[](auto& w) { w.pieces[1].box.begin[0] = 4; },
       "the piece in two that begins at [4, 0] with shape [2, 2] does not lie in [5, 2]"},
      {[](auto& w) { w.pieces[0].box.begin[0] = -1; },
       "the piece in one that begins at [-1, 0] with shape [3, 2] does not lie in [5, 2]"},
      {[](auto& w) {
         w.pieces[1].box.shape = {3, 2};
       },
       "the piece in two that begins at [3, 0] with shape [3, 2] does not lie in [5, 2]"},
      {[](auto& w) { w.pieces[1].box.shape[0] = INT64_MAX; }, "does not lie in [5, 2]"},
      {[](auto& w) { w.pieces[1].box.begin[0] = INT64_MAX; }, "does not lie in [5, 2]"},
      {[](auto& w) {
         w.pieces[1].box.shape = {2, 1};
       },
       "its 2 pieces hold 8 of 10 elements"},
      {[](auto& w) { w.pieces[1].box.shape = {2}; }, "with shape [2] does not lie in [5, 2]"},
      {[](auto& w) { w.pieces[1].box.begin = {3}; },
       "begins at [3] with shape [2, 2] does not lie"},
      {[](auto& w) {
         w.pieces[1].box = {{0, 1}, {5, 1}};
       },
       "the pieces [0:3, 0:2] in one and [0:5, 1:2] in two overlap"},
      {[](auto& w) {
         w.pieces[0].box.shape = {-3, 2};
       },
       "the piece in one that begins at [0, 0] with shape [-3, 2] does not lie in [5, 2]"},
      {[](auto& w) {
         w.pieces[0].box.shape = {3, 0};
       },
       "with shape [3, 0] has no elements of [5, 2]"},
      {[](auto& w) {
         w.view = {5, 3};
       },
       "its view [5, 3] has other elements"},
      {[](auto& w) {
         w.view = {-5, -2};
       },
       "its view [-5, -2] has other elements"},
      {[](auto& w) {
         w.view = {2, 5};
       },
       "does not lie in [2, 5]"},
      {[](auto& w) { w.dtype = "F16"; }, "its dtype is 'F16', F32 is allowed"},
      {[](auto& w) {
         w.shape = {-5, 2};
       },
       "has a negative size"},
      {[](auto& w) {
         w.shape = {INT64_MAX, 2};
       },
       "too many elements"},
  };
  for (const auto& [change, reason] : cases) {
    TensorIndex sample = Sample();
    change(sample.tensors[0]);
    const absl::Status status = ParseTensorIndex(FormatTensorIndex(sample)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << reason;
    EXPECT_THAT(std::string(status.message()), HasSubstr("tensor 'w'"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(reason));
  }
}

// Against the definition, element by element: random boxes of a small tensor.
TEST(TensorIndex, AcceptsExactlyWhatMakesUpTheTensor) {
  std::mt19937 random(5);
  auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  int accepted = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    IndexedTensor tensor{"w", "F32", {2, 3}, {}, {}};
    std::vector<int> count(6);
    for (int64_t piece = 1 + below(3); piece > 0; --piece) {
      TensorBox box{{below(2), below(3)}, {}};
      box.shape = {1 + below(2 - box.begin[0]), 1 + below(3 - box.begin[1])};
      for (int64_t i = 0; i < box.elements(); ++i) {
        ++count[static_cast<size_t>((box.begin[0] + i / box.shape[1]) * 3 + box.begin[1] +
                                    i % box.shape[1])];
      }
      tensor.pieces.push_back({"one", box});
    }
    const bool once = std::all_of(count.begin(), count.end(), [](int n) { return n == 1; });
    TensorIndex index{1, {tensor}};
    ASSERT_EQ(CheckTensorIndex(&index).ok(), once) << FormatTensorIndex(index);
    accepted += once ? 1 : 0;
  }
  EXPECT_GT(accepted, 100);
}

// 300 tensors cut over 64 ranks along one dim or two, and one into 4,096 pieces, in a moment.
TEST(TensorIndex, ManyPiecesAreCheckedQuickly) {
  TensorIndex index;
  for (int t = 0; t < 301; ++t) {
    const int64_t rows = t == 300 ? 64 : t % 3 == 0 ? 64 : t % 3 == 1 ? 1 : 8;
    const int64_t columns = t == 300 ? 64 : 64 / rows;
    IndexedTensor tensor{std::to_string(t), "F32", {128, 128}, {}, {}};
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) {
        tensor.pieces.push_back(
            {std::to_string(r * columns + c),
             {{r * 128 / rows, c * 128 / columns}, {128 / rows, 128 / columns}}});
      }
    }
    index.tensors.push_back(std::move(tensor));
  }
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(CheckTensorIndex(&index).ok());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(TensorIndex, RefusesANameTwice) {
  TensorIndex sample = Sample();
  sample.tensors[1].name = "w";
  EXPECT_THAT(std::string(ParseTensorIndex(FormatTensorIndex(sample)).status().message()),
              HasSubstr("tensor 'w' is listed twice"));
}

TEST(TensorIndex, RefusesMalformedText) {
  for (const char* text :
       {"", "{", "[]", "{}", R"({"step": "1", "tensors": []})", R"({"step": 1})",
        R"({"step": 1, "tensors": [{"name": "w"}]})",
        R"({"step": 1, "tensors": [{"name": "w", "dtype": "F32", "shape": 3, "pieces": []}]})",
        R"({"step": 1, "tensors": [{"name": "w", "dtype": "F32", "shape": [], "pieces": [3]}]})"}) {
    const absl::Status status = ParseTensorIndex(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("malformed"));
  }
}

}  // namespace
}  // namespace entrain
