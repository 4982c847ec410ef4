#include "runtime/tensor/tensor_view.h"

#include <gtest/gtest.h>

#include <vector>

namespace entrain {
namespace {

TEST(TensorView, DefaultIsEmpty) {
  const TensorView view;
  EXPECT_FALSE(view);
  EXPECT_EQ(view.size(), 0);
  EXPECT_EQ(view.rows(), 0);
  EXPECT_EQ(view.bytes(), 0);
}

TEST(TensorView, DimsSizesAndStrides) {
  std::vector<float> memory(24);
  const TensorView view(memory.data(), DType::kF32, {2, 3, 4});
  EXPECT_TRUE(view);
  EXPECT_EQ(view.num_dims(), 3);
  EXPECT_EQ(view.dim(0), 2);
  EXPECT_EQ(view.dim(-1), 4);
  EXPECT_EQ(view.dim(-3), 2);
  EXPECT_EQ(view.size(), 24);
  EXPECT_EQ(view.rows(), 6);
  EXPECT_EQ(view.bytes(), 96);
  EXPECT_TRUE(view.dense());
  EXPECT_EQ(view.row<float>(5), memory.data() + 20);
}

TEST(TensorView, RowStrideLeavesPaddingBetweenRows) {
  std::vector<Bf16> memory(24);
  const TensorView view(memory.data(), DType::kBf16, {3, 5}, 8);
  EXPECT_FALSE(view.dense());
  EXPECT_EQ(view.size(), 15);
  EXPECT_EQ(view.bytes(), 48);
  EXPECT_EQ(view.row<Bf16>(2), memory.data() + 16);
  const TensorView rows = view.Rows(1, 2);
  EXPECT_EQ(rows.dim(0), 2);
  EXPECT_EQ(rows.row_stride(), 8);
  EXPECT_EQ(rows.raw(), memory.data() + 8);
}

TEST(TensorView, RowsOfMoreDimsCountTheLastAlone) {
  std::vector<float> memory(24);
  const TensorView view(memory.data(), DType::kF32, {2, 3, 4});
  const TensorView rows = view.Rows(4, 2);
  EXPECT_EQ(rows.num_dims(), 2);
  EXPECT_EQ(rows.dim(1), 4);
  EXPECT_EQ(rows.raw(), memory.data() + 16);
}

TEST(TensorView, RowsOfAViewWithoutMemoryHaveNone) {
  const TensorView view(nullptr, DType::kF32, {4, 4});
  EXPECT_FALSE(view.Rows(2, 1));
  EXPECT_EQ(view.Rows(2, 1).dim(0), 1);
}

TEST(TensorView, ReshapeKeepsMemoryAndSize) {
  std::vector<float> memory(24);
  const TensorView view(memory.data(), DType::kF32, {2, 3, 4});
  const TensorView flat = view.Reshape({24});
  EXPECT_EQ(flat.raw(), memory.data());
  EXPECT_EQ(flat.dim(0), 24);
  EXPECT_EQ(flat.row_stride(), 24);
}

TEST(TensorView, AnEmptyLastDimHasNoRows) {
  const TensorView view(nullptr, DType::kF32, {3, 0});
  EXPECT_EQ(view.size(), 0);
  EXPECT_EQ(view.rows(), 0);
}

TEST(TensorViewDeathTest, MisuseEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  std::vector<float> memory(24);
  const TensorView view(memory.data(), DType::kF32, {2, 3, 4});
  EXPECT_DEATH(view.data<Bf16>(), "tensor holds f32");
  EXPECT_DEATH(view.Reshape({5}), "5 vs 24");
  const TensorView padded(memory.data(), DType::kF32, {2, 3}, 4);
  EXPECT_DEATH(padded.Reshape({6}), "dense\\(\\)");
  EXPECT_DEATH(TensorView(nullptr, DType::kF32, {1, 1, 1, 1, 1, 1}), "6 vs 5");
}

}  // namespace
}  // namespace entrain
