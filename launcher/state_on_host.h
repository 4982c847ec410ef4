// StateOnHost: tensors of training state in host memory, where checkpoints read and write them, whatever device they live on.
#ifndef ENTRAIN_LAUNCHER_STATE_ON_HOST_H_
#define ENTRAIN_LAUNCHER_STATE_ON_HOST_H_

#include <vector>

#include "parallel/state_tensor.h"
#include "runtime/device/buffer.h"
#include "runtime/device/context.h"

namespace entrain {

class StateOnHost {
 public:
  // Takes host memory for those tensors that are not there already. The context and what the tensors name must outlive it.
  StateOnHost(Context& context, std::vector<StateTensor> tensors);

  // All in host memory.
  const std::vector<StateTensor>& tensors() const { return host_; }
  // From the device to host memory, and back.
  void Pull();
  void Push();

 private:
  Context& context_;
  std::vector<StateTensor> tensors_;
  Buffer memory_;
  std::vector<StateTensor> host_;
};

// Bytes of a tensor's elements, f32.
inline int64_t BytesOf(const StateTensor& tensor) {
  return tensor.box.elements() * static_cast<int64_t>(sizeof(float));
}

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_STATE_ON_HOST_H_
