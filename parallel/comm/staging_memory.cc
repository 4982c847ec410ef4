#include "parallel/comm/staging_memory.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

namespace entrain {

StagingMemory::~StagingMemory() {
  for (Slot& slot : slots_) {
    if (slot.last_copy) WaitUntil([&] { return slot.last_copy->Done(); });
  }
}

PinnedBuffer StagingMemory::Take(int64_t bytes) {
  auto best = slots_.end();
  for (auto slot = slots_.begin(); slot != slots_.end(); ++slot) {
    if (slot->buffer.bytes() < bytes) continue;
    if (best == slots_.end() || slot->buffer.bytes() < best->buffer.bytes()) best = slot;
  }
  // Large memory that a small operation has would soon be missed.
  constexpr int64_t kWaste = 4;
  constexpr int64_t kLeast = 4096;
  if (best == slots_.end() || best->buffer.bytes() > kWaste * std::max(bytes, kLeast)) {
    return {device_, std::max(bytes, kLeast)};
  }
  if (best->last_copy) WaitUntil([&] { return best->last_copy->Done(); });
  PinnedBuffer buffer = std::move(best->buffer);
  slots_.erase(best);
  return buffer;
}

void StagingMemory::Give(PinnedBuffer buffer, std::unique_ptr<Transfer> last_copy) {
  slots_.push_back({std::move(buffer), std::move(last_copy)});
}

void WaitUntil(const std::function<bool()>& ready) {
  constexpr int kEagerPolls = 200;
  constexpr std::chrono::microseconds kPause(20);
  for (int polls = 0; !ready(); ++polls) {
    if (polls < kEagerPolls) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kPause);
    }
  }
}

}  // namespace entrain
