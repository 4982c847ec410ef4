// Tensors between host memory and that of a context's device; see device_memory.h.
#ifndef ENTRAIN_RUNTIME_TENSOR_TENSOR_COPY_H_
#define ENTRAIN_RUNTIME_TENSOR_TENSOR_COPY_H_

#include <vector>

#include "runtime/device/device_memory.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// The elements of a dense tensor, after all ops issued so far.
template <typename T>
std::vector<T> ToHost(Context& context, const TensorView& view) {
  CHECK(view.dense());
  std::vector<T> values(static_cast<size_t>(view.size()));
  CopyToHost(context, view.data<T>(), values.data(), view.bytes());
  return values;
}

// From as many elements in host memory into a dense tensor.
template <typename T>
void FromHost(Context& context, const T* values, const TensorView& view) {
  CHECK(view.dense());
  CopyToDevice(context, values, view.data<T>(), view.bytes());
}

// Between dense tensors of one dtype and size.
inline void CopyTensor(Context& context, const TensorView& from, const TensorView& to) {
  CHECK(from.dense() && to.dense() && from.dtype() == to.dtype());
  CHECK_EQ(from.size(), to.size());
  CopyOnDevice(context, from.raw(), to.raw(), from.bytes());
}

inline void FillZero(Context& context, const TensorView& view) {
  FillBytes(context, view.raw(), 0, view.bytes());
}

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_TENSOR_TENSOR_COPY_H_
