// Cases of matrix products; their operands on the CPU, and plain sums to hold them against.
#ifndef ENTRAIN_TESTS_SUPPORT_MATMUL_OPERANDS_H_
#define ENTRAIN_TESTS_SUPPORT_MATMUL_OPERANDS_H_

#include <cstdint>
#include <ostream>

#include "runtime/kernels/matmul.h"
#include "tests/support/test_tensor.h"

namespace entrain {

struct MatmulCase {
  int64_t m, n, k;
  DType dtype = DType::kF32;
  DType out_dtype = DType::kF32;
  bool transpose_a = false;
  bool transpose_b = false;
  bool bias = false;
  bool accumulate = false;
  bool addend = false;
  MatmulEpilogue epilogue = MatmulEpilogue::kNone;
  int64_t padding = 0;  // elements between rows of a, b and out; half as many between an addend's
};

inline std::ostream& operator<<(std::ostream& stream, const MatmulCase& c) {
  return stream << c.m << "x" << c.n << "x" << c.k << " " << kDTypeNames.Name(c.dtype) << " to "
                << kDTypeNames.Name(c.out_dtype) << (c.transpose_a ? " T" : " N")
                << (c.transpose_b ? "T" : "N") << (c.bias ? " bias" : "")
                << (c.accumulate ? " accumulate" : "") << (c.addend ? " addend " : " ")
                << kMatmulEpilogueNames.Name(c.epilogue) << " padding " << c.padding;
}

inline TestTensor Matrix(DType dtype, int64_t rows, int64_t columns, uint64_t stream,
                         int64_t padding) {
  return TestTensor::Normal(dtype, {rows, columns}, stream, 1.0, columns + padding);
}

struct ProductOperands {
  TestTensor a, b, out, bias, addend;

  explicit ProductOperands(const MatmulCase& c)
      : a(Matrix(c.dtype, c.transpose_a ? c.k : c.m, c.transpose_a ? c.m : c.k, 1, c.padding)),
        b(Matrix(c.dtype, c.transpose_b ? c.n : c.k, c.transpose_b ? c.k : c.n, 2, c.padding)),
        out(Matrix(c.out_dtype, c.m, c.n, 3, c.padding)),
        bias(TestTensor::Normal(DType::kF32, {c.n}, 4)),
        addend(Matrix(DType::kF32, c.m, c.n, 5, c.padding / 2)) {}

  MatmulArgs Args(const MatmulCase& c) {
    return {.a = a.view(),
            .b = b.view(),
            .out = out.view(),
            .bias = c.bias ? bias.view() : TensorView(),
            .addend = c.addend ? addend.view() : TensorView(),
            .transpose_a = c.transpose_a,
            .transpose_b = c.transpose_b,
            .accumulate = c.accumulate};
  }

  Doubles Reference(const MatmulCase& c) const {
    Doubles result;
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t j = 0; j < c.n; ++j) {
        double sum = (c.bias ? bias.At(j) : 0.0) + (c.accumulate ? out.At(i * c.n + j) : 0.0) +
                     (c.addend ? addend.At(i * c.n + j) : 0.0);
        for (int64_t k = 0; k < c.k; ++k) {
          sum += a.At(c.transpose_a ? k * c.m + i : i * c.k + k) *
                 b.At(c.transpose_b ? j * c.k + k : k * c.n + j);
        }
        result.push_back(sum);
      }
    }
    return result;
  }
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_MATMUL_OPERANDS_H_
