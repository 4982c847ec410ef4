// StagingMemory: pinned host memory of operations, used again when the last copy from it is done.
#ifndef ENTRAIN_PARALLEL_COMM_STAGING_MEMORY_H_
#define ENTRAIN_PARALLEL_COMM_STAGING_MEMORY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/device/context.h"
#include "runtime/device/pinned_buffer.h"
#include "runtime/device/transfers.h"

namespace entrain {

class StagingMemory {
 public:
  explicit StagingMemory(DeviceKind device) : device_(device) {}
  // Waits for the copies under way.
  ~StagingMemory();
  StagingMemory(const StagingMemory&) = delete;
  StagingMemory& operator=(const StagingMemory&) = delete;

  // The smallest that is free and large enough, or new memory.
  PinnedBuffer Take(int64_t bytes);
  // Free again when `last_copy` is done; without one at once.
  void Give(PinnedBuffer buffer, std::unique_ptr<Transfer> last_copy);

 private:
  struct Slot {
    PinnedBuffer buffer;
    std::unique_ptr<Transfer> last_copy;
  };

  DeviceKind device_;
  std::vector<Slot> slots_;
};

// Returns when `ready` says so; asks at first without a pause.
void WaitUntil(const std::function<bool()>& ready);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_STAGING_MEMORY_H_
