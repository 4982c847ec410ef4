#include "runtime/device/timeline.h"

#include "runtime/device/dispatch.h"

namespace entrain {
ENTRAIN_BACKENDS(std::unique_ptr<Timeline> MakeTimeline(Context& context))

std::unique_ptr<Timeline> Timeline::Create(Context& context) {
  ENTRAIN_DISPATCH_ON(context.device(), MakeTimeline, context);
}

}  // namespace entrain
