#include "runtime/device/device_facts.h"

namespace entrain::cpu {

DeviceFacts FactsOf(const Context& /*context*/) {
  return {.identity = HostIdentity(), .limits = {}};
}

}  // namespace entrain::cpu
