#include <gtest/gtest.h>

#include "runtime/kernels/adamw.h"
#include "tests/support/twin_ops.h"

namespace entrain {
namespace {

// A parameter with its state, of some tiles and a part of one.
struct Trained {
  explicit Trained(int64_t size)
      : value(NormalTwin(DType::kF32, {size}, 1)),
        gradient(NormalTwin(DType::kF32, {size}, 2)),
        first(FilledTwin(DType::kF32, {size}, 0.0)),
        second(FilledTwin(DType::kF32, {size}, 0.0)),
        copy(FilledTwin(DType::kBf16, {size}, 1.0)) {}
  // tail: not at fours.
  AdamWParameter On(const Context& c, bool tail, bool copied) {
    const auto view = [&](GpuTwin& twin) { return tail ? TailOn(c, twin) : entrain::On(c, twin); };
    return {.value = view(value),
            .gradient = view(gradient),
            .first_moment = view(first),
            .second_moment = view(second),
            .compute = copied ? view(copy) : TensorView()};
  }
  GpuTwin value, gradient, first, second, copy;
};

std::vector<TwinOutput> Outputs(const std::vector<Trained*>& all) {
  std::vector<TwinOutput> outputs;
  for (Trained* trained : all) {
    for (GpuTwin* twin : {&trained->value, &trained->first, &trained->second}) {
      outputs.push_back({*twin, 5e-7});
    }
    outputs.push_back({trained->copy, 5e-4});
  }
  return outputs;
}

GpuTwin Rate(int64_t step) {
  const auto rate = AdamWRate(1e-2, 0.1, 0.9, 0.95, step);
  return TwinOf(DType::kF32, {3}, {rate.begin(), rate.end()});
}

TEST(AdamWGpuTest, SeveralStepsOfSeveralParameters) {
  ENTRAIN_REQUIRE_GPU();
  for (const bool tail : {false, true}) {
    for (const bool copied : {false, true}) {
      Trained a(5), b(2048), c(5003), d(4096);
      GpuTwin scale = FilledTwin(DType::kF32, {1}, 0.3);
      GpuTwin rates[] = {Rate(1), Rate(2), Rate(3)};
      ExpectTwins(
          [&](Context& context) {
            AdamWArgs args{.parameters = {a.On(context, tail, copied),
                                          {},
                                          b.On(context, tail, false),
                                          c.On(context, tail, copied),
                                          d.On(context, false, copied)},
                           .beta1 = 0.9,
                           .beta2 = 0.95,
                           .gradient_scale = On(context, scale)};
            args.parameters[2].decayed = true;
            args.parameters[3].minimum = 0.25F;
            for (GpuTwin& rate : rates) {
              args.rate = On(context, rate);
              AdamW(context, args);
            }
          },
          Outputs({&a, &b, &c, &d}));
    }
  }
}

TEST(AdamWGpuTest, AScaleThatIsNoNumberLeavesAllAsItIs) {
  ENTRAIN_REQUIRE_GPU();
  Trained a(2050);
  GpuTwin scale = FilledTwin(DType::kF32, {1}, NAN), rate = Rate(1);
  const std::vector<uint8_t> before = a.value.gpu.Bytes();
  AdamW(Gpu(), {.parameters = {a.On(Gpu(), false, true)},
                .rate = On(Gpu(), rate),
                .gradient_scale = On(Gpu(), scale)});
  EXPECT_EQ(a.value.gpu.Bytes(), before);
  EXPECT_EQ(a.first.gpu.GetDoubles(), Doubles(2050));
}

TEST(AdamWGpuTest, ANaNIsNotClamped) {
  ENTRAIN_REQUIRE_GPU();
  Trained a(3);
  a.value.Fill(NAN);
  GpuTwin scale = FilledTwin(DType::kF32, {1}, 1.0), rate = Rate(1);
  AdamWParameter parameter = a.On(Gpu(), false, false);
  parameter.minimum = 0.25F;
  AdamW(Gpu(),
        {.parameters = {parameter}, .rate = On(Gpu(), rate), .gradient_scale = On(Gpu(), scale)});
  EXPECT_TRUE(std::isnan(a.value.gpu.GetDoubles()[0]));
}

}  // namespace
}  // namespace entrain
