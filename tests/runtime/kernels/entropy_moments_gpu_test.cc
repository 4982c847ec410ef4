#include <gtest/gtest.h>

#include "runtime/kernels/entropy_moments.h"
#include "tests/support/twin_ops.h"

namespace entrain {
namespace {

struct Shape {
  int64_t layers, batch, heads, positions;
};

struct Moments {
  explicit Moments(const Shape& s)
      : sums(NaNTwin(DType::kF64, {s.layers, s.heads, 2})),
        extremes(NaNTwin(DType::kF32, {s.layers, s.heads, 2})) {}
  HeadMoments On(const Context& context) {
    return {entrain::On(context, sums), entrain::On(context, extremes)};
  }
  GpuTwin sums, extremes;
};

TEST(EntropyMomentsGpuTest, OverBatchAndPositions) {
  ENTRAIN_REQUIRE_GPU();
  for (const Shape& s : {Shape{2, 3, 4, 37}, {1, 1, 2, 1}, {3, 40, 1, 130}}) {
    GpuTwin entropy = NormalTwin(DType::kF32, {s.layers, s.batch, s.heads, s.positions}, 1);
    Moments moments(s);
    ExpectTwins([&](Context& c) { EntropyMoments(c, On(c, entropy), moments.On(c)); },
                {{moments.sums, 1e-13}, {moments.extremes, 0.0}});
  }
}

TEST(EntropyMomentsGpuTest, JoinAndKeep) {
  ENTRAIN_REQUIRE_GPU();
  const Shape s = {3, 2, 130, 5};  // more heads than a block has threads
  GpuTwin entropy = NormalTwin(DType::kF32, {s.layers, s.batch, s.heads, s.positions}, 1);
  GpuTwin more = NormalTwin(DType::kF32, {s.layers, s.batch, s.heads, s.positions}, 2);
  Moments total(s), added(s);
  GpuTwin mean = FilledTwin(DType::kF32, {s.layers, s.heads}, 7.0);
  for (const double scale : {1.0, double{NAN}}) {
    GpuTwin unless_nan = FilledTwin(DType::kF32, {1}, scale);
    ExpectTwins(
        [&](Context& c) {
          EntropyMoments(c, On(c, entropy), total.On(c));
          EntropyMoments(c, On(c, more), added.On(c));
          JoinMoments(c, added.On(c), total.On(c));
          KeepMeans(c, {.sums = total.On(c).sums,
                        .rows = 2 * s.batch * s.positions,
                        .unless_nan = On(c, unless_nan),
                        .mean = On(c, mean)});
        },
        {{total.sums, 1e-13}, {total.extremes, 0.0}, {mean, 1e-7}});
  }
}

}  // namespace
}  // namespace entrain
