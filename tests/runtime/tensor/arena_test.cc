#include "runtime/tensor/arena.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

namespace entrain {
namespace {

Context& Host() {
  static const auto* const kContext = new std::unique_ptr<Context>(*Context::CreateCpu(1));
  return **kContext;
}

// A layout with scopes, as a model makes one: it runs on a measuring and on an owning arena.
struct Layout {
  TensorView stream;
  TensorView scratch;
  TensorView logits;

  explicit Layout(Arena& arena) {
    stream = arena.Allocate("stream", DType::kF32, {3, 7});
    {
      const Arena::Scope scope(arena);
      scratch = arena.Allocate("scratch", DType::kBf16, {100});
    }
    logits = arena.Allocate("logits", DType::kF32, {1});
  }
};

TEST(Arena, MeasuringAndOwningTakeTheSame) {
  Arena measuring;
  const Layout measured(measuring);
  EXPECT_TRUE(measuring.measuring());
  EXPECT_FALSE(measured.stream);
  EXPECT_EQ(measured.stream.dim(1), 7);
  EXPECT_EQ(measuring.used_bytes(), 128 + 64);
  EXPECT_EQ(measuring.peak_bytes(), 128 + 256);

  Arena owning(Host(), measuring.peak_bytes());
  const Layout owned(owning);
  EXPECT_FALSE(owning.measuring());
  EXPECT_TRUE(owned.stream);
  EXPECT_EQ(owning.used_bytes(), measuring.used_bytes());
  EXPECT_EQ(owning.peak_bytes(), measuring.peak_bytes());
}

TEST(Arena, EntriesNameEveryAllocationWithItsAlignedSize) {
  Arena arena;
  const Layout layout(arena);
  ASSERT_EQ(arena.entries().size(), 3U);
  EXPECT_EQ(arena.entries()[0].name, "stream");
  EXPECT_EQ(arena.entries()[0].bytes, 128);
  EXPECT_EQ(arena.entries()[1].name, "scratch");
  EXPECT_EQ(arena.entries()[1].bytes, 256);
  EXPECT_EQ(arena.entries()[2].name, "logits");
  EXPECT_EQ(arena.entries()[2].bytes, 64);
}

TEST(Arena, TensorsAreAlignedZeroAndDoNotOverlap) {
  Arena arena(Host(), 4096);
  const TensorView first = arena.Allocate("first", DType::kBf16, {5});
  const TensorView second = arena.Allocate("second", DType::kF32, {17});
  const TensorView third = arena.Allocate("third", DType::kF32, {1});
  for (const TensorView& view : {first, second, third}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.raw()) % Buffer::kAlignment, 0U);
  }
  for (int i = 0; i < 17; ++i) EXPECT_EQ(second.data<float>()[i], 0.0F);
  EXPECT_EQ(static_cast<char*>(second.raw()) - static_cast<char*>(first.raw()), 64);
  EXPECT_EQ(static_cast<char*>(third.raw()) - static_cast<char*>(second.raw()), 128);
}

TEST(Arena, ScopesGiveBackInTurn) {
  Arena arena(Host(), 1024);
  const TensorView kept = arena.Allocate("kept", DType::kF32, {16});
  TensorView inner;
  {
    const Arena::Scope outer_scope(arena);
    const TensorView outer = arena.Allocate("outer", DType::kF32, {16});
    {
      const Arena::Scope inner_scope(arena);
      inner = arena.Allocate("inner", DType::kF32, {16});
      EXPECT_EQ(arena.used_bytes(), 192);
    }
    EXPECT_EQ(arena.used_bytes(), 128);
    const TensorView again = arena.Allocate("again", DType::kF32, {16});
    EXPECT_EQ(again.raw(), inner.raw());
    EXPECT_NE(again.raw(), outer.raw());
  }
  EXPECT_EQ(arena.used_bytes(), 64);
  EXPECT_EQ(arena.peak_bytes(), 192);
  EXPECT_TRUE(kept);
}

TEST(Arena, BuildsWithAssertionsPoisonWhatAScopeGaveBack) {
#ifdef NDEBUG
  GTEST_SKIP() << "builds without assertions do not poison; ./run sanitize does";
#endif
  Arena arena(Host(), 1024);
  TensorView view;
  {
    const Arena::Scope scope(arena);
    view = arena.Allocate("scratch", DType::kF32, {4});
    view.data<float>()[3] = 1.0F;
  }
  EXPECT_TRUE(std::isnan(view.data<float>()[3]));
}

TEST(Arena, ZeroSizedTensorsTakeNothing) {
  Arena arena;
  const TensorView view = arena.Allocate("none", DType::kF32, {0, 5});
  EXPECT_EQ(view.size(), 0);
  EXPECT_EQ(arena.used_bytes(), 0);
}

TEST(ArenaDeathTest, TooSmallNamesTheTensor) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Arena arena(Host(), 128);
  arena.Allocate("fits", DType::kF32, {16});
  EXPECT_DEATH(arena.Allocate("logits", DType::kF32, {17}),
               "192 vs 128 arena too small for logits");
}

}  // namespace
}  // namespace entrain
