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
    GpuTwin product(DType::kF64, {1});
    product.Fill(NAN);
    const auto run = [&](Context& context, auto view) {
      InnerProduct(context, view(a), view(b), view(product));
    };
    OnBoth(run);
    const double first = product.gpu.GetDoubles()[0];
    EXPECT_NEAR(first, product.cpu.At(0), 1e-11 * static_cast<double>(in * out));
    OnGpu(run);
    EXPECT_EQ(product.gpu.GetDoubles()[0], first);
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
  GpuTensor number(DType::kF64, {1});
  number.Fill(NAN);
  InnerProduct(Gpu(), tall, tall, number);
  EXPECT_EQ(number.GetDoubles()[0], 0.0);
  SpectralScale(Gpu(), tall, number, tall);
}

TEST(PowerIterationGpuTest, NormalizeAgreesWithTheCpu) {
  ENTRAIN_REQUIRE_GPU();
  // A block's threads, more, and a few.
  for (const int64_t size : {256, 700, 3}) {
    for (const double scale : {1.0, 0.0}) {
      for (const bool keep : {false, true}) {
        GpuTwin x(DType::kF64, {size}), square(DType::kF64, {1}), norm(DType::kF64, {1});
        GpuTwin old(DType::kF32, {size}), out(DType::kF32, {size});
        x.Normal(1, scale);
        old.Normal(2);
        out.Fill(NAN);
        OnBoth([&](Context& context, auto view) {
          SquaredNorm(context, view(x), view(square));
          Normalize(context, {.x = view(x),
                              .square = view(square),
                              .if_zero = keep ? view(old) : TensorView(),
                              .out = view(out),
                              .norm = view(norm)});
        });
        EXPECT_LE(norm.Error(), 1e-14);
        EXPECT_LE(out.Error(), 1e-7);
      }
    }
  }
}

TEST(PowerIterationGpuTest, ScaleIsTheCpus) {
  ENTRAIN_REQUIRE_GPU();
  for (const auto& [in, out] : kShapes) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      GpuTwin raw(DType::kF32, {in, out}), weight(dtype, {in, out});
      GpuTwin sigma(DType::kF64, {1});
      sigma.Fill(1.7);
      raw.Normal(1);
      weight.Fill(NAN);
      OnBoth([&](Context& context, auto view) {
        SpectralScale(context, view(raw), view(sigma), view(weight));
      });
      EXPECT_EQ(weight.gpu.GetDoubles(), weight.cpu.values()) << in << " x " << out;
    }
  }
}

TEST(PowerIterationGpuTest, BackwardOverItsGradient) {
  ENTRAIN_REQUIRE_GPU();
  for (const auto& [in, out] : kShapes) {
    GpuTwin dweight(DType::kF32, {in, out}), u(DType::kF32, {out}), v(DType::kF32, {in});
    GpuTwin sigma(DType::kF64, {1}), product(DType::kF64, {1});
    sigma.Fill(1.7);
    product.Fill(-2.3);
    dweight.Normal(1);
    u.Normal(2);
    v.Normal(3);
    OnBoth([&](Context& context, auto view) {
      SpectralBackward(context, {.dweight = view(dweight),
                                 .u = view(u),
                                 .v = view(v),
                                 .sigma = view(sigma),
                                 .product = view(product),
                                 .draw = view(dweight)});
    });
    EXPECT_LT(dweight.Error(), 1e-7) << in << " x " << out;
  }
}

}  // namespace
}  // namespace entrain
