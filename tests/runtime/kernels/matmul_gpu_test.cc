#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "runtime/kernels/matmul.h"
#include "tests/support/gpu_test.h"
#include "tests/support/matmul_gpu_case.h"

namespace entrain {
namespace {

constexpr bool kBoth[] = {false, true};

void ExpectLikeCpu(const MatmulCase& c) {
  SCOPED_TRACE(testing::Message() << c);
  MatmulOperandTwins operands(c);
  Matmul(Gpu(), operands.GpuArgs(c));
  Matmul(Cpu(), operands.CpuArgs(c));
  EXPECT_LT(operands.out.Error(), ToleranceOf(c));
  if (c.epilogue == MatmulEpilogue::kGelu) {
    EXPECT_LT(operands.aux.Error(), ToleranceOf(c));
  }
}

TEST(MatmulGpuTest, EveryLayout) {
  ENTRAIN_REQUIRE_GPU();
  for (const bool transpose_a : kBoth) {
    for (const bool transpose_b : kBoth) {
      for (const bool accumulate : kBoth) {
        for (const DType dtype : {DType::kF32, DType::kBf16}) {
          ExpectLikeCpu({.m = 40,
                         .n = 56,
                         .k = 32,
                         .dtype = dtype,
                         .transpose_a = transpose_a,
                         .transpose_b = transpose_b,
                         .bias = transpose_a != transpose_b,
                         .accumulate = accumulate});
        }
      }
      for (const bool bias : kBoth) {
        ExpectLikeCpu({.m = 40,
                       .n = 56,
                       .k = 32,
                       .dtype = DType::kBf16,
                       .out_dtype = DType::kBf16,
                       .transpose_a = transpose_a,
                       .transpose_b = transpose_b,
                       .bias = bias});
      }
    }
  }
}

TEST(MatmulGpuTest, Tf32IsTakenWhereItWasAllowedOnly) {
  ENTRAIN_REQUIRE_GPU();
  const auto other = Context::CreateCuda(0, 1);
  ASSERT_TRUE(other.ok());
  AllowTf32(**other);
  const MatmulCase c = {.m = 64, .n = 48, .k = 96};
  MatmulOperandTwins operands(c);
  Matmul(Cpu(), operands.CpuArgs(c));
  Matmul(**other, operands.GpuArgs(c));
  Synchronize(**other);
  // Factors of 10 bits are off by 2⁻¹² on average.
  EXPECT_GT(operands.out.Error(), 2e-5);
  EXPECT_LT(operands.out.Error(), 1e-3);
  Matmul(Gpu(), operands.GpuArgs(c));
  EXPECT_LT(operands.out.Error(), ToleranceOf(c));
}

TEST(MatmulGpuTest, RandomShapes) {
  ENTRAIN_REQUIRE_GPU();
  std::mt19937 random(23);
  const auto below = [&](uint32_t bound) { return static_cast<int64_t>(random() % bound); };
  for (int i = 0; i < 60; ++i) {
    MatmulCase c = {.m = 1 + below(90), .n = 1 + below(90), .k = 1 + below(90)};
    c.dtype = below(2) == 0 ? DType::kF32 : DType::kBf16;
    c.out_dtype = below(2) == 0 ? DType::kF32 : c.dtype;
    // bf16 rows of an odd number of elements lie at addresses for which a real GPU has no kernel.
    if (c.dtype == DType::kBf16) {
      for (int64_t* dim : {&c.m, &c.n, &c.k}) *dim = (*dim + 7) / 8 * 8;
    }
    c.transpose_a = below(2) == 0;
    c.transpose_b = below(2) == 0;
    c.bias = below(2) == 0;
    c.accumulate = c.out_dtype == DType::kF32 && below(2) == 0;
    c.addend = c.out_dtype == DType::kF32 && !c.accumulate && below(2) == 0;
    c.padding = 8 * below(3);
    ExpectLikeCpu(c);
  }
}

TEST(MatmulGpuTest, Addends) {
  ENTRAIN_REQUIRE_GPU();
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int64_t padding : {0, 16}) {
      for (const bool bias : kBoth) {
        ExpectLikeCpu({.m = 40,
                       .n = 56,
                       .k = 32,
                       .dtype = dtype,
                       .transpose_b = bias,
                       .bias = bias,
                       .addend = true,
                       .padding = padding});
      }
    }
    ExpectLikeCpu(
        {.m = 24, .n = 32, .k = 4096, .dtype = dtype, .transpose_a = true, .addend = true});
    ExpectLikeCpu({.m = 1, .n = 8, .k = 8, .dtype = dtype, .addend = true});
  }
}

// An addend is read and not written, and out itself is one.
TEST(MatmulGpuTest, AddendStaysOrIsOut) {
  ENTRAIN_REQUIRE_GPU();
  const MatmulCase c = {.m = 24, .n = 40, .k = 64, .bias = true, .addend = true, .padding = 4};
  MatmulOperandTwins apart(c), over(c), accumulated(c);
  const std::vector<uint8_t> before = apart.addend.gpu.Bytes();
  Matmul(Gpu(), apart.GpuArgs(c));
  EXPECT_EQ(apart.addend.gpu.Bytes(), before);
  over.out.gpu.Set(apart.addend.gpu.Get());
  MatmulArgs args = over.GpuArgs(c);
  args.addend = args.out;
  Matmul(Gpu(), args);
  accumulated.out.gpu.Set(apart.addend.gpu.Get());
  args = accumulated.GpuArgs(c);
  args.addend = TensorView();
  args.accumulate = true;
  Matmul(Gpu(), args);
  EXPECT_EQ(over.out.gpu.Bytes(), accumulated.out.gpu.Bytes());
  EXPECT_EQ(apart.out.gpu.Bytes(), over.out.gpu.Bytes());
}

TEST(MatmulGpuTest, LongSums) {
  ENTRAIN_REQUIRE_GPU();
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const bool accumulate : kBoth) {
      ExpectLikeCpu({.m = 24,
                     .n = 32,
                     .k = 4096,
                     .dtype = dtype,
                     .transpose_a = true,
                     .accumulate = accumulate});
    }
  }
}

// Columns of a larger matrix, which begin anywhere.
TEST(MatmulGpuTest, UnalignedOperands) {
  ENTRAIN_REQUIRE_GPU();
  const MatmulCase c = {.m = 12, .n = 20, .k = 16, .bias = true, .padding = 4};
  MatmulOperandTwins operands(c);
  const auto shifted = [](const TensorView& view, int64_t columns) {
    auto* data = static_cast<float*>(view.raw()) + view.dim(1) - columns;
    return TensorView(data, DType::kF32, {view.dim(0), columns}, view.row_stride());
  };
  const auto shift = [&](MatmulArgs args) {
    args.a = shifted(args.a, c.k - 3);
    args.b = shifted(args.b.Rows(0, c.k - 3), c.n - 1);
    args.out = shifted(args.out, c.n - 1);
    args.bias = TensorView(args.bias.data<float>() + 1, DType::kF32, {c.n - 1});
    return args;
  };
  operands.out.Fill(1.0F);
  Matmul(Gpu(), shift(operands.GpuArgs(c)));
  Matmul(Cpu(), shift(operands.CpuArgs(c)));
  EXPECT_LT(operands.out.Error(), 2e-6);
  EXPECT_EQ(operands.out.gpu.Get()[0], 1.0F);
}

TEST(MatmulGpuTest, Epilogues) {
  ENTRAIN_REQUIRE_GPU();
  for (const auto epilogue : {MatmulEpilogue::kGelu, MatmulEpilogue::kGeluGradient}) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      const bool forward = epilogue == MatmulEpilogue::kGelu;
      for (const bool bias : {false, forward}) {
        ExpectLikeCpu({.m = 48,
                       .n = 64,
                       .k = 40,
                       .dtype = dtype,
                       .out_dtype = dtype,
                       .transpose_b = !forward,
                       .bias = bias,
                       .epilogue = epilogue});
      }
    }
    // Rows that cuBLASLt takes no aux of.
    ExpectLikeCpu({.m = 8,
                   .n = 20,
                   .k = 16,
                   .dtype = DType::kBf16,
                   .out_dtype = DType::kBf16,
                   .epilogue = epilogue});
  }
}

TEST(MatmulGpuTest, SameBitsEveryTime) {
  ENTRAIN_REQUIRE_GPU();
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const DType out : {DType::kF32, dtype}) {
      const MatmulCase c = {
          .m = 64, .n = 40, .k = 2048, .dtype = dtype, .out_dtype = out, .transpose_a = true};
      const std::vector<uint8_t> first = OutBits(Gpu(), c);
      for (int i = 0; i < 3; ++i) EXPECT_EQ(OutBits(Gpu(), c), first) << c;
      EXPECT_EQ(OutBits(*OtherContext(), c), first) << c;
      if (out != DType::kF32) continue;
      MatmulCase sum = c;
      sum.addend = true;
      EXPECT_EQ(OutBits(Gpu(), sum), OutBits(*OtherContext(), sum)) << sum;
    }
  }
}

TEST(MatmulGpuTest, NothingToDo) {
  ENTRAIN_REQUIRE_GPU();
  const TensorView a(nullptr, DType::kF32, {0, 8});
  const GpuTensor b(DType::kF32, {8, 8});
  Matmul(Gpu(), {.a = a, .b = b.view(), .out = TensorView(nullptr, DType::kF32, {0, 8})});
}

TEST(MatmulGpuTest, NonFiniteGoesThrough) {
  ENTRAIN_REQUIRE_GPU();
  const MatmulCase c = {.m = 4, .n = 8, .k = 8};
  MatmulOperandTwins operands(c);
  std::vector<float> a = operands.a.gpu.Get();
  a[8] = NAN;
  operands.a.gpu.Set(a);
  Matmul(Gpu(), operands.GpuArgs(c));
  const std::vector<float> out = operands.out.gpu.Get();
  EXPECT_TRUE(std::isnan(out[8]));
  EXPECT_FALSE(std::isnan(out[0]));
}

}  // namespace
}  // namespace entrain
