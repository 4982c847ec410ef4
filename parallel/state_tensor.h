// StateTensor: a part of a named tensor of training state, in this rank's memory: what a rank gives to a checkpoint, or
// wants of one.
#ifndef ENTRAIN_PARALLEL_STATE_TENSOR_H_
#define ENTRAIN_PARALLEL_STATE_TENSOR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/tensor_box.h"
#include "runtime/device/context.h"

namespace entrain {

struct StateTensor {
  std::string name;
  // Of the whole, as it is exported: [C, 3C].
  std::vector<int64_t> global_shape;
  // The shape that is looked at for cutting: the same elements in the same order, as [C, 3, C], so that q, k and v are
  // each cut. Empty: global_shape.
  std::vector<int64_t> view;
  // The part of the view that is here. It may be empty.
  TensorBox box;
  // Its elements, f32, dense, row-major, in memory of `device` that outlives the call. Checkpoints take host memory only.
  float* data = nullptr;
  DeviceKind device = DeviceKind::kCpu;

  const std::vector<int64_t>& viewed_shape() const { return view.empty() ? global_shape : view; }
};

// All of a tensor.
StateTensor WholeTensor(std::string name, std::vector<int64_t> shape, float* data);

// CHECKs that the view has the tensor's elements, that the box lies in it, and that there are data unless it is empty.
void CheckStateTensor(const StateTensor& tensor);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_STATE_TENSOR_H_
