#include "runtime/device/device_facts.h"

#include "runtime/device/dispatch.h"

namespace entrain {
ENTRAIN_BACKENDS(DeviceFacts FactsOf(const Context& context))

DeviceFacts FactsOf(const Context& context) {
  ENTRAIN_DISPATCH_ON(context.device(), FactsOf, context);
}

}  // namespace entrain
