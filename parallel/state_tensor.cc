#include "parallel/state_tensor.h"

#include <utility>

#include "runtime/base/check.h"

namespace entrain {

StateTensor WholeTensor(std::string name, std::vector<int64_t> shape, float* data) {
  TensorBox box = TensorBox::Whole(shape);
  return {.name = std::move(name),
          .global_shape = std::move(shape),
          .box = std::move(box),
          .data = data};
}

void CheckStateTensor(const StateTensor& tensor) {
  const int64_t elements = ElementsOf(tensor.global_shape);
  CHECK(elements >= 0 && ElementsOf(tensor.viewed_shape()) == elements)
      << "'" << tensor.name << "': " << FormatShape(tensor.global_shape) << " viewed as "
      << FormatShape(tensor.viewed_shape());
  CHECK(LiesIn(tensor.box, tensor.viewed_shape()))
      << "'" << tensor.name << "': " << FormatBox(tensor.box) << " of "
      << FormatShape(tensor.viewed_shape());
  CHECK(tensor.device == DeviceKind::kCpu) << "'" << tensor.name << "' is not in host memory";
  CHECK(tensor.data != nullptr || tensor.box.elements() == 0) << "'" << tensor.name << "'";
}

}  // namespace entrain
