#include "parallel/tensor_box.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

namespace entrain {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

// The box's part of the tensor of `global` shape whose element i (row-major) has the value i.
std::vector<float> Part(const std::vector<int64_t>& global, const TensorBox& box) {
  std::vector<float> values;
  for (int64_t i = 0; i < TensorBox::Cut(global, -1, 0).elements(); ++i) {
    int64_t rest = i;
    bool inside = true;
    for (size_t dim = global.size(); dim-- > 0; rest /= global[dim]) {
      const int64_t at = rest % global[dim] - box.begin[dim];
      inside = inside && at >= 0 && at < box.shape[dim];
    }
    if (inside) values.push_back(static_cast<float>(i));
  }
  return values;
}

std::vector<float> Copied(const TensorBox& from, const std::vector<float>& source,
                          const TensorBox& to) {
  std::vector<float> target(static_cast<size_t>(to.elements()), -1.0F);
  CopyCommon(from, reinterpret_cast<const std::byte*>(source.data()), to, target.data());
  return target;
}

TEST(TensorBox, CutsOneDim) {
  const TensorBox box = TensorBox::Cut({2, 3}, 1, 4);
  EXPECT_THAT(box.begin, ElementsAre(0, 4));
  EXPECT_THAT(box.shape, ElementsAre(2, 3));
  EXPECT_EQ(box.elements(), 6);
  EXPECT_THAT(TensorBox::Cut({2, 3}, -1, 0).begin, ElementsAre(0, 0));
}

TEST(TensorBox, IntersectionIsWhatBothHold) {
  const TensorBox common = Intersection({{0, 2}, {4, 3}}, {{1, 0}, {8, 4}});
  EXPECT_THAT(common.begin, ElementsAre(1, 2));
  EXPECT_THAT(common.shape, ElementsAre(3, 2));
  EXPECT_EQ(Intersection({{0}, {2}}, {{2}, {2}}).elements(), 0);
  EXPECT_EQ(Intersection({{0}, {2}}, {{5}, {2}}).elements(), 0);
}

// Every pair of boxes of a small tensor, against the definition element by element.
TEST(TensorBox, CopiesExactlyWhatIsCommon) {
  const std::vector<int64_t> global = {3, 2, 4};
  std::vector<TensorBox> boxes;
  for (int dim = 0; dim < 3; ++dim) {
    for (int64_t begin = 0; begin < global[static_cast<size_t>(dim)]; ++begin) {
      for (int64_t size = 0; begin + size <= global[static_cast<size_t>(dim)]; ++size) {
        std::vector<int64_t> shape = global;
        shape[static_cast<size_t>(dim)] = size;
        boxes.push_back(TensorBox::Cut(shape, dim, begin));
      }
    }
  }
  for (const TensorBox& from : boxes) {
    for (const TensorBox& to : boxes) {
      const std::vector<float> wanted = Part(global, to);
      const std::vector<float> held = Part(global, Intersection(from, to));
      const std::vector<float> copied = Copied(from, Part(global, from), to);
      size_t found = 0;
      for (size_t i = 0; i < wanted.size(); ++i) {
        const bool common = found < held.size() && held[found] == wanted[i];
        ASSERT_EQ(copied[i], common ? wanted[i] : -1.0F);
        found += common ? 1 : 0;
      }
      ASSERT_EQ(found, held.size());
    }
  }
}

TEST(TensorBox, CopiesAScalar) {
  EXPECT_THAT(Copied(TensorBox::Cut({}, -1, 0), {5.0F}, TensorBox::Cut({}, -1, 0)),
              ElementsAre(5.0F));
}

TEST(TensorBox, CopiesNothingWhereNothingIsCommon) {
  EXPECT_THAT(Copied(TensorBox::Cut({2, 2}, 0, 0), {1, 2, 3, 4}, TensorBox::Cut({2, 2}, 0, 2)),
              Each(-1.0F));
}

TEST(TensorBox, ReadsFromUnalignedBytes) {
  const std::vector<float> values = {1.5F, -2.5F};
  std::vector<std::byte> bytes(1 + sizeof(float) * 2);
  std::memcpy(bytes.data() + 1, values.data(), sizeof(float) * 2);
  std::vector<float> target(2);
  const TensorBox box = TensorBox::Cut({2}, -1, 0);
  CopyCommon(box, bytes.data() + 1, box, target.data());
  EXPECT_EQ(target, values);
}

}  // namespace
}  // namespace entrain
