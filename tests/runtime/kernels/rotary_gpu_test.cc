#include <gtest/gtest.h>

#include "runtime/kernels/rotary.h"
#include "tests/support/twin_ops.h"

namespace entrain {
namespace {

struct Shape {
  int64_t batch, positions, heads, width, rotary_dims;
};

TEST(RotaryGpuTest, TurnsAndTurnsBack) {
  ENTRAIN_REQUIRE_GPU();
  // In fours, all of a head or a part; pair by pair, for few pairs and for narrow heads; more pairs than a block has threads.
  for (const Shape& s : {Shape{1, 3, 2, 64, 64},
                         {2, 5, 3, 24, 16},
                         {2, 3, 2, 8, 4},
                         {1, 2, 3, 6, 6},
                         {1, 2, 1, 8, 0},
                         {1, 2, 40, 128, 128}}) {
    for (const DType dtype : kFloatTypes) {
      for (const int64_t first_position : {0, 7}) {
        for (const bool inverse : {false, true}) {
          GpuTwin qkv = NormalTwin(dtype, {s.batch, s.positions, 3, s.heads, s.width}, 1);
          ExpectTwins(
              [&](Context& c) {
                Rotary(c, {.qkv = On(c, qkv),
                           .rotary_dims = s.rotary_dims,
                           .first_position = first_position,
                           .inverse = inverse});
              },
              {{qkv, ElementTolerance(dtype)}});
        }
      }
    }
  }
}

TEST(RotaryGpuTest, TablesGrow) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t first_position : {0, 255, 256, 700, 3000, 5}) {
    GpuTwin qkv = NormalTwin(DType::kF32, {1, 1, 3, 1, 32}, 1);
    ExpectTwins(
        [&](Context& c) {
          Rotary(c, {.qkv = On(c, qkv), .rotary_dims = 32, .first_position = first_position});
        },
        {{qkv, ElementTolerance(DType::kF32)}});
  }
}

TEST(RotaryGpuTest, NoTokens) {
  ENTRAIN_REQUIRE_GPU();
  Rotary(Gpu(), {.qkv = TensorView(nullptr, DType::kF32, {0, 4, 3, 2, 8}), .rotary_dims = 8});
}

}  // namespace
}  // namespace entrain
