#include "runtime/device/op_graph.h"

#include "runtime/device/dispatch.h"

namespace entrain {
ENTRAIN_BACKENDS(void RunOps(Context& context, std::shared_ptr<void>& recorded, uint64_t key,
                             const std::function<void()>& issue))

void OpGraph::Run(Context& context, uint64_t key, const std::function<void()>& issue) {
  ENTRAIN_DISPATCH(RunOps, context, recorded_, key, issue);
}

}  // namespace entrain
