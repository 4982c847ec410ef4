// OpGraph: ops that are issued over and over, with the same operands, as one launch of the device.
#ifndef ENTRAIN_RUNTIME_DEVICE_OP_GRAPH_H_
#define ENTRAIN_RUNTIME_DEVICE_OP_GRAPH_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "runtime/device/context.h"

namespace entrain {

class OpGraph {
 public:
  // Does what `issue` does: it issues ops of the context, for none of which the host waits. On a CUDA device, the first time with a
  // key, they are issued as they are, so that they take scratch memory and make their plans; the second time they are recorded; from
  // then on `issue` is not called any more, and the device goes through all of them at one launch. Recording is renewed when
  // device memory was freed in between, which they may have used. `key` stands for all that the host decides in `issue`. On
  // the CPU `issue` is called.
  void Run(Context& context, uint64_t key, const std::function<void()>& issue);

 private:
  std::shared_ptr<void> recorded_;  // the backend's
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_OP_GRAPH_H_
