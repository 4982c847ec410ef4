// Transfers: copies between host memory and a context's device that hold up neither the host nor, in one direction, the
// device's ops. For what is exchanged with other ranks while ops go on.
#ifndef ENTRAIN_RUNTIME_DEVICE_TRANSFERS_H_
#define ENTRAIN_RUNTIME_DEVICE_TRANSFERS_H_

#include <cstdint>
#include <memory>

#include "runtime/device/context.h"

namespace entrain {

// A copy under way. Neither side of it may change before it is done, but by ops that are issued after StartToDevice.
class Transfer {
 public:
  virtual ~Transfer() = default;
  Transfer() = default;
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  virtual bool Done() = 0;
};

// For the thread that issues the context's ops.
class Transfers {
 public:
  // `context` must outlive it.
  static std::unique_ptr<Transfers> Create(Context& context);
  virtual ~Transfers() = default;
  Transfers() = default;
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  // Of what is there after all ops issued so far. Ops issued later do not wait for it; the copies of one object are made in
  // order. `host` must be pinned (pinned_buffer.h).
  virtual std::unique_ptr<Transfer> StartToHost(const void* device, void* host, int64_t bytes) = 0;
  // In order with the context's ops: those issued later see it.
  virtual std::unique_ptr<Transfer> StartToDevice(const void* host, void* device,
                                                  int64_t bytes) = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_TRANSFERS_H_
