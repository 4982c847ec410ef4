#include "runtime/device/op_graph.h"

namespace entrain::cpu {

void RunOps(Context& /*context*/, std::shared_ptr<void>& /*recorded*/, uint64_t /*key*/,
            const std::function<void()>& issue) {
  issue();
}

}  // namespace entrain::cpu
