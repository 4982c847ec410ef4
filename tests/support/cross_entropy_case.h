// What tests of cross-entropy share, on whatever device: its dtypes, and the gradients that lie over the logits.
#ifndef ENTRAIN_TESTS_SUPPORT_CROSS_ENTROPY_CASE_H_
#define ENTRAIN_TESTS_SUPPORT_CROSS_ENTROPY_CASE_H_

#include <cstdint>

#include "runtime/tensor/tensor_view.h"
#include "tests/support/test_tensor.h"

namespace entrain {

// Of logits and of the gradients that are laid over them.
struct CrossEntropyTypes {
  DType logits;
  DType gradient;
};
inline constexpr CrossEntropyTypes kCrossEntropyTypes[] = {
    {DType::kF32, DType::kF32}, {DType::kF32, DType::kBf16}, {DType::kBf16, DType::kBf16}};

inline TensorView GradientView(const TensorView& logits, DType dtype) {
  const int64_t stride = logits.row_stride() * SizeOf(logits.dtype()) / SizeOf(dtype);
  return {logits.raw(), dtype, {logits.dim(0), logits.dim(1)}, stride};
}

inline Doubles ValuesOf(const TensorView& view) {
  Doubles values;
  DispatchFloat(view.dtype(), [&]<typename T>(T) {
    for (int64_t row = 0; row < view.rows(); ++row) {
      for (int64_t i = 0; i < view.dim(-1); ++i) {
        values.push_back(static_cast<float>(view.row<T>(row)[i]));
      }
    }
  });
  return values;
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_CROSS_ENTROPY_CASE_H_
