#include <gtest/gtest.h>

#include "runtime/kernels/row_norms.h"
#include "tests/support/gpu_twin.h"

namespace entrain {
namespace {

constexpr NormAxis kAxes[] = {NormAxis::kOutput, NormAxis::kInput};

struct Shape {
  int64_t in;
  int64_t out;
};
constexpr Shape kShapes[] = {{131, 77}, {36, 1100}, {700, 12}, {1, 5}, {65, 4}};

// What the steps of one matrix read and write. Unit 0 is zero.
struct Operands {
  Operands(const Shape& shape, NormAxis axis, DType dtype)
      : units(axis == NormAxis::kOutput ? shape.out : shape.in),
        v(DType::kF32, {shape.in, shape.out}),
        g(DType::kF32, {units}),
        norms(DType::kF32, {units}),
        products(DType::kF64, {units}),
        weight(dtype, {shape.in, shape.out}),
        dweight(DType::kF32, {shape.in, shape.out}),
        dg(DType::kF32, {units}) {
    v.Set([&](int64_t i) {
      const int64_t unit = axis == NormAxis::kOutput ? i % shape.out : i / shape.out;
      return unit == 0 && units > 1 ? 0.0 : 0.02 * NormalAt(7, 1, static_cast<uint64_t>(i));
    });
    g.Normal(2);
    dweight.Normal(3);
    for (GpuTwin* output : {&norms, &products, &weight, &dg}) output->Fill(NAN);
  }

  int64_t units;
  GpuTwin v;
  GpuTwin g;
  GpuTwin norms;
  GpuTwin products;
  GpuTwin weight;
  GpuTwin dweight;
  GpuTwin dg;
};

template <typename View>
void Forward(Context& context, NormAxis axis, Operands& operands, View&& view) {
  UnitProducts(context, view(operands.v), view(operands.v), axis, view(operands.products));
  NormsFromSquares(context, view(operands.products), view(operands.norms));
  WeightNormForward(context, {.v = view(operands.v),
                              .g = view(operands.g),
                              .norms = view(operands.norms),
                              .axis = axis,
                              .weight = view(operands.weight)});
}

// The gradient lies over its own.
template <typename View>
void Backward(Context& context, NormAxis axis, Operands& operands, View&& view) {
  UnitProducts(context, view(operands.dweight), view(operands.v), axis, view(operands.products));
  WeightNormBackward(context, {.dweight = view(operands.dweight),
                               .v = view(operands.v),
                               .g = view(operands.g),
                               .norms = view(operands.norms),
                               .products = view(operands.products),
                               .axis = axis,
                               .dv = view(operands.dweight),
                               .dg = view(operands.dg)});
}

TEST(RowNormsGpuTest, AgreesWithTheCpu) {
  ENTRAIN_REQUIRE_GPU();
  for (const Shape& shape : kShapes) {
    for (const NormAxis axis : kAxes) {
      for (const DType dtype : {DType::kF32, DType::kBf16}) {
        SCOPED_TRACE(testing::Message()
                     << shape.in << " x " << shape.out << ", " << kNormAxisNames.Name(axis));
        Operands operands(shape, axis, dtype);
        OnBoth([&](Context& context, auto view) { Forward(context, axis, operands, view); });
        // fp64 sums in another order, rounded to fp32.
        EXPECT_LT(operands.products.Error(), 1e-13);
        EXPECT_LT(operands.norms.Error(), 1e-7);
        // A norm's other rounding may move a weight to the next bf16.
        EXPECT_LT(operands.weight.Error(), dtype == DType::kBf16 ? 1e-3 : 3e-7);
        OnBoth([&](Context& context, auto view) { Backward(context, axis, operands, view); });
        EXPECT_LT(operands.products.Error(), 1e-12);
        EXPECT_LT(operands.dg.Error(), 3e-7);
        EXPECT_LT(operands.dweight.Error(), 1e-6);
      }
    }
  }
}

TEST(RowNormsGpuTest, SameBitsEveryTime) {
  ENTRAIN_REQUIRE_GPU();
  for (const NormAxis axis : kAxes) {
    std::vector<std::vector<uint8_t>> first;
    for (int run = 0; run < 2; ++run) {
      Operands operands(kShapes[0], axis, DType::kBf16);
      OnGpu([&](Context& context, auto view) {
        Forward(context, axis, operands, view);
        Backward(context, axis, operands, view);
      });
      const std::vector outputs = {operands.products.gpu.Bytes(), operands.weight.gpu.Bytes(),
                                   operands.dg.gpu.Bytes(), operands.dweight.gpu.Bytes()};
      if (run == 0) first = outputs;
      EXPECT_EQ(outputs, first);
    }
  }
}

TEST(RowNormsGpuTest, UnitOfNormZero) {
  ENTRAIN_REQUIRE_GPU();
  for (const NormAxis axis : kAxes) {
    Operands operands(kShapes[0], axis, DType::kF32);
    OnGpu([&](Context& context, auto view) {
      Forward(context, axis, operands, view);
      Backward(context, axis, operands, view);
    });
    EXPECT_EQ(operands.norms.gpu.Get()[0], 0.0F);
    EXPECT_EQ(operands.weight.gpu.Get()[0], 0.0F);
    EXPECT_EQ(operands.dg.gpu.Get()[0], 0.0F);
    EXPECT_EQ(operands.dweight.gpu.Get()[0], 0.0F);
  }
}

}  // namespace
}  // namespace entrain
