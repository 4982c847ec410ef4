#include <gtest/gtest.h>

#include "runtime/kernels/power_iteration.h"
#include "tests/support/gpu_twin.h"

namespace entrain {
namespace {

struct Shape {
  int64_t in;
  int64_t out;
};

// Rows of fours and others; more chunks of rows than there may be, which makes them longer.
constexpr Shape kShapes[] = {{131, 77}, {132, 1100}, {4200, 12}, {1, 5}, {65, 4}};

TEST(PowerIterationGpuTest, ProductsAgreeWithTheCpu) {
  ENTRAIN_REQUIRE_GPU();
  for (const auto& [in, out] : kShapes) {
    SCOPED_TRACE(testing::Message() << in << " x " << out);
    GpuTwin raw(DType::kF32, {in, out}), u(DType::kF32, {out}), v(DType::kF32, {in});
    GpuTwin forward(DType::kF64, {in}), back(DType::kF64, {out});
    raw.Normal(1, 0.02);
    u.Normal(2);
    v.Normal(3);
    const auto products = [&](Context& context, auto view) {
      MatrixVector(context, view(raw), view(u), view(forward));
      TransposedMatrixVector(context, view(raw), view(v), view(back));
    };
    forward.Fill(NAN);
    back.Fill(NAN);
    OnBoth(products);
    // fp64 sums in another order.
    EXPECT_LT(forward.Error(), 1e-13);
    EXPECT_LT(back.Error(), 1e-13);
    const std::vector first = {forward.gpu.Bytes(), back.gpu.Bytes()};
    OnGpu(products);
    EXPECT_EQ(std::vector({forward.gpu.Bytes(), back.gpu.Bytes()}), first);
  }
}

TEST(PowerIterationGpuTest, InnerProduct) {
  ENTRAIN_REQUIRE_GPU();
  for (const auto& [in, out] : kShapes) {
    GpuTwin a(DType::kF32, {in, out}), b(DType::kF32, {in, out});
    a.Normal(1);
    b.Normal(2, 1.0, 0.1);
    std::vector<double> results;
    const auto product = [&](Context& context, auto view) {
      results.push_back(InnerProduct(context, view(a), view(b)));
    };
    OnBoth(product);
    EXPECT_NEAR(results[0], results[1], 1e-11 * static_cast<double>(in * out));
    OnGpu(product);
    EXPECT_EQ(results[2], results[0]);
  }
}

TEST(PowerIterationGpuTest, MatricesWithoutElements) {
  ENTRAIN_REQUIRE_GPU();
  GpuTensor tall(DType::kF32, {5, 0}), wide(DType::kF32, {0, 5}), none(DType::kF32, {0});
  GpuTensor sums(DType::kF64, {5});
  sums.Fill(NAN);
  MatrixVector(Gpu(), tall, none, sums);
  EXPECT_EQ(sums.GetDoubles(), Doubles(5, 0.0));
  sums.Fill(NAN);
  TransposedMatrixVector(Gpu(), wide, none, sums);
  EXPECT_EQ(sums.GetDoubles(), Doubles(5, 0.0));
  EXPECT_EQ(InnerProduct(Gpu(), tall, tall), 0.0);
  SpectralScale(Gpu(), tall, 1.0, tall);
}

TEST(PowerIterationGpuTest, ScaleIsTheCpus) {
  ENTRAIN_REQUIRE_GPU();
  for (const auto& [in, out] : kShapes) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      GpuTwin raw(DType::kF32, {in, out}), weight(dtype, {in, out});
      raw.Normal(1);
      weight.Fill(NAN);
      OnBoth([&](Context& context, auto view) {
        SpectralScale(context, view(raw), 1.7, view(weight));
      });
      EXPECT_EQ(weight.gpu.GetDoubles(), weight.cpu.values()) << in << " x " << out;
    }
  }
}

TEST(PowerIterationGpuTest, BackwardOverItsGradient) {
  ENTRAIN_REQUIRE_GPU();
  for (const auto& [in, out] : kShapes) {
    GpuTwin dweight(DType::kF32, {in, out}), u(DType::kF32, {out}), v(DType::kF32, {in});
    dweight.Normal(1);
    u.Normal(2);
    v.Normal(3);
    OnBoth([&](Context& context, auto view) {
      SpectralBackward(context, {.dweight = view(dweight),
                                 .u = view(u),
                                 .v = view(v),
                                 .sigma = 1.7,
                                 .product = -2.3,
                                 .draw = view(dweight)});
    });
    EXPECT_LT(dweight.Error(), 1e-7) << in << " x " << out;
  }
}

}  // namespace
}  // namespace entrain
