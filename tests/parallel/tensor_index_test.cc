#include "parallel/tensor_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace entrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// One tensor cut over two files and one that is not cut.
TensorIndex Sample() {
  TensorIndex index;
  index.step = 12;
  index.tensors.push_back({"w", "F32", {5, 2}, {{"one", 0, 0, {3, 2}}, {"two", 0, 3, {2, 2}}}});
  index.tensors.push_back({"scale", "F32", {}, {{"one", -1, 0, {}}}});
  return index;
}

TEST(TensorIndex, ReadsWhatItWrites) {
  const auto index = ParseTensorIndex(FormatTensorIndex(Sample()));
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->step, 12);
  ASSERT_EQ(index->tensors.size(), 2U);
  const IndexedTensor& tensor = index->tensors[0];
  EXPECT_EQ(tensor.name, "w");
  EXPECT_EQ(tensor.dtype, "F32");
  EXPECT_THAT(tensor.shape, ElementsAre(5, 2));
  ASSERT_EQ(tensor.pieces.size(), 2U);
  EXPECT_EQ(tensor.pieces[1].file, "two");
  EXPECT_EQ(tensor.pieces[1].cut_dim, 0);
  EXPECT_EQ(tensor.pieces[1].begin, 3);
  EXPECT_THAT(tensor.pieces[1].shape, ElementsAre(2, 2));
  EXPECT_THAT(tensor.pieces[1].Box().begin, ElementsAre(3, 0));
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
      {[](auto& w) { w.pieces.pop_back(); }, "its pieces end at 3 of 5"},
      {[](auto& w) { w.pieces[1].begin = 2; }, "the piece in two begins at 2, not at 3"},
      {[](auto& w) { w.pieces[1].begin = 4; }, "the piece in two begins at 4, not at 3"},
      {[](auto& w) { w.pieces[0].begin = -1; }, "the piece in one begins at -1, not at 0"},
      {[](auto& w) {
         w.pieces[1].shape = {3, 2};
       },
       "the piece in two passes its end, 5"},
      {[](auto& w) {
         w.pieces[1].shape = {2, 1};
       },
       "the piece in two of shape [2, 1] does not fit"},
      {[](auto& w) { w.pieces[1].shape = {2}; }, "the piece in two of shape [2] does not fit"},
      {[](auto& w) { w.pieces[1].cut_dim = 1; }, "the piece in two of shape [2, 2] does not fit"},
      {[](auto& w) {
         w.pieces[0].shape = {-3, 2};
       },
       "the piece in one of shape [-3, 2] does not fit"},
      {[](auto& w) { w.pieces[0].cut_dim = 2; }, "it is cut along dim 2 of 2"},
      {[](auto& w) { w.pieces[0].cut_dim = -2; }, "it is cut along dim -2 of 2"},
      {[](auto& w) { w.pieces[0].cut_dim = w.pieces[1].cut_dim = -1; }, "not the whole"},
      {[](auto& w) { w.dtype = "F16"; }, "its dtype is 'F16', F32 is allowed"},
      {[](auto& w) {
         w.shape = {-5, 2};
       },
       "has a negative size"},
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
