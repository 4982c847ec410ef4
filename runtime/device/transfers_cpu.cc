#include <cstddef>
#include <cstring>
#include <new>

#include "runtime/device/buffer.h"
#include "runtime/device/transfers.h"

namespace entrain::cpu {
namespace {

constexpr std::align_val_t kAlignment{Buffer::kAlignment};

class DoneTransfer final : public Transfer {
 public:
  bool Done() override { return true; }
};

class PlainCopies final : public Transfers {
 public:
  std::unique_ptr<Transfer> StartToHost(const void* device, void* host, int64_t bytes) override {
    return Copy(device, host, bytes);
  }
  std::unique_ptr<Transfer> StartToDevice(const void* host, void* device, int64_t bytes) override {
    return Copy(host, device, bytes);
  }

 private:
  static std::unique_ptr<Transfer> Copy(const void* from, void* to, int64_t bytes) {
    if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
    return std::make_unique<DoneTransfer>();
  }
};

}  // namespace

void* TakePinnedMemory(int64_t bytes) {
  return ::operator new(static_cast<size_t>(bytes), kAlignment);
}

void GivePinnedMemory(void* data) { ::operator delete(data, kAlignment); }

std::unique_ptr<Transfers> MakeTransfers(Context& /*context*/) {
  return std::make_unique<PlainCopies>();
}

}  // namespace entrain::cpu
