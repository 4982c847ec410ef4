#include "runtime/device/device_facts.h"

#include <fstream>

#include "runtime/device/dispatch.h"

namespace entrain {
ENTRAIN_BACKENDS(DeviceFacts FactsOf(const Context& context))

DeviceFacts FactsOf(const Context& context) {
  ENTRAIN_DISPATCH_ON(context.device(), FactsOf, context);
}

std::string HostIdentity() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
  return id;
}

}  // namespace entrain
