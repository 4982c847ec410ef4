#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/matmul_operands.h"

namespace entrain {
namespace {

double Gelu(double x) {
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
}
double GeluDerivative(double x) {
  constexpr double kStep = 1e-5;
  return (Gelu(x + kStep) - Gelu(x - kStep)) / (2.0 * kStep);
}

TEST(MatmulEpilogueTest, GeluKeepsWhatItSees) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const MatmulCase c = {
        .m = 19, .n = 40, .k = 23, .dtype = dtype, .out_dtype = dtype, .bias = true};
    ProductOperands operands(c);
    TestTensor aux(dtype, {c.m, c.n});
    aux.Fill(NAN);
    operands.out.Fill(NAN);
    Doubles expected = ProductOperands(c).Reference(c);
    MatmulArgs args = operands.Args(c);
    args.epilogue = MatmulEpilogue::kGelu;
    args.aux = aux.view();
    Matmul(*CpuContext(2), args);
    EXPECT_LT(RelativeError(aux.values(), expected), Tolerance(dtype));
    for (double& value : expected) value = Gelu(value);
    EXPECT_LT(RelativeError(operands.out.values(), expected), 2.0 * Tolerance(dtype));
  }
}

TEST(MatmulEpilogueTest, GeluGradient) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const MatmulCase c = {
        .m = 19, .n = 40, .k = 23, .dtype = dtype, .out_dtype = dtype, .transpose_b = true};
    ProductOperands operands(c);
    TestTensor aux = TestTensor::Normal(dtype, {c.m, c.n}, 9);
    operands.out.Fill(NAN);
    Doubles expected = ProductOperands(c).Reference(c);
    for (size_t i = 0; i < expected.size(); ++i) {
      expected[i] *= GeluDerivative(aux.At(static_cast<int64_t>(i)));
    }
    MatmulArgs args = operands.Args(c);
    args.epilogue = MatmulEpilogue::kGeluGradient;
    args.aux = aux.view();
    Matmul(*CpuContext(2), args);
    EXPECT_LT(RelativeError(operands.out.values(), expected), 2.0 * Tolerance(dtype));
  }
}

TEST(MatmulEpilogueDeathTest, ChecksItsOperands) {
  const auto context = CpuContext(1);
  const MatmulCase c = {.m = 3, .n = 4, .k = 5, .bias = true};
  ProductOperands operands(c);
  TestTensor aux = TestTensor::F32({3, 4});
  MatmulArgs args = operands.Args(c);
  args.epilogue = MatmulEpilogue::kGelu;
  EXPECT_DEATH(Matmul(*context, args), "matmul aux");
  args.aux = aux.view();
  args.accumulate = true;
  EXPECT_DEATH(Matmul(*context, args), "does not accumulate");
  args.accumulate = false;
  args.epilogue = MatmulEpilogue::kGeluGradient;
  EXPECT_DEATH(Matmul(*context, args), "takes no bias");
}

}  // namespace
}  // namespace entrain
