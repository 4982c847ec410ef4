#include "runtime/device/buffer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

namespace entrain {
namespace {

TEST(Buffer, IsZeroAndAligned) {
  const Buffer buffer(1000);
  EXPECT_EQ(buffer.bytes(), 1000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % Buffer::kAlignment, 0U);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(static_cast<const char*>(buffer.data())[i], 0);
}

TEST(Buffer, LargeOnesAreZeroToTheEnd) {
  constexpr int64_t kBytes = int64_t{20} << 20;
  const Buffer buffer(kBytes);
  EXPECT_EQ(static_cast<const char*>(buffer.data())[kBytes - 1], 0);
}

TEST(Buffer, EmptyHasNoMemory) {
  EXPECT_EQ(Buffer().data(), nullptr);
  EXPECT_EQ(Buffer(0).data(), nullptr);
}

TEST(Buffer, MovesItsMemory) {
  Buffer first(64);
  void* const memory = first.data();
  Buffer second(std::move(first));
  EXPECT_EQ(second.data(), memory);
  Buffer third(128);
  third = std::move(second);
  EXPECT_EQ(third.data(), memory);
  EXPECT_EQ(third.bytes(), 64);
}

TEST(Buffer, AlignedRoundsUp) {
  EXPECT_EQ(Buffer::Aligned(0), 0);
  EXPECT_EQ(Buffer::Aligned(1), 64);
  EXPECT_EQ(Buffer::Aligned(64), 64);
  EXPECT_EQ(Buffer::Aligned(65), 128);
}

TEST(BufferDeathTest, ImpossibleSizesEndTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(Buffer(-1), "-1 vs 0");
  EXPECT_DEATH(Buffer(int64_t{1} << 62), "out of memory: 4611686018427387904 bytes asked for");
}

}  // namespace
}  // namespace entrain
