// Checks of an op's operands. A wrong one is a programmer's error; the message names op and operand.
#ifndef ENTRAIN_RUNTIME_KERNELS_OPERAND_H_
#define ENTRAIN_RUNTIME_KERNELS_OPERAND_H_

#include <initializer_list>
#include <sstream>
#include <string>

#include "runtime/base/check.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// "bf16 [4, 768] with row stride 1536"
inline std::string Describe(const TensorView& view) {
  std::ostringstream text;
  text << kDTypeNames.Name(view.dtype()) << " [";
  for (int i = 0; i < view.num_dims(); ++i) text << (i == 0 ? "" : ", ") << view.dim(i);
  text << "]";
  if (!view.dense()) text << " with row stride " << view.row_stride();
  return text.str();
}

// Dims as given, any row stride of at least the last one.
inline void CheckDims(const char* name, const TensorView& view,
                      std::initializer_list<int64_t> dims) {
  CHECK_EQ(static_cast<size_t>(view.num_dims()), dims.size()) << name << ": " << Describe(view);
  int i = 0;
  for (const int64_t dim : dims) {
    CHECK_EQ(view.dim(i), dim) << name << ", dim " << i << ": " << Describe(view);
    ++i;
  }
  CHECK_GE(view.row_stride(), view.dim(-1)) << name << ": " << Describe(view);
  CHECK(view || view.size() == 0) << name << " has no memory: " << Describe(view);
}

inline void CheckDType(const char* name, const TensorView& view, DType dtype) {
  CHECK(view.dtype() == dtype) << name << " must be " << kDTypeNames.Name(dtype) << ": "
                               << Describe(view);
}

inline void CheckFloat(const char* name, const TensorView& view) {
  CHECK(view.dtype() != DType::kI32) << name << " must be f32 or bf16: " << Describe(view);
}

inline void CheckDense(const char* name, const TensorView& view) {
  CHECK(view.dense()) << name << " must be dense: " << Describe(view);
}

// f32, dense, with these dims.
inline void CheckF32(const char* name, const TensorView& view,
                     std::initializer_list<int64_t> dims) {
  CheckDType(name, view, DType::kF32);
  CheckDims(name, view, dims);
  CheckDense(name, view);
}

// f64, dense, of that many elements.
inline void CheckF64(const char* name, const TensorView& view, int64_t size) {
  CheckDType(name, view, DType::kF64);
  CheckDense(name, view);
  CHECK_EQ(view.size(), size) << name << ": " << Describe(view);
  CHECK(view || size == 0) << name << " has no memory: " << Describe(view);
}

// f32 or bf16, dense, with these dims.
inline void CheckFloat(const char* name, const TensorView& view,
                       std::initializer_list<int64_t> dims) {
  CheckFloat(name, view);
  CheckDims(name, view, dims);
  CheckDense(name, view);
}

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_OPERAND_H_
