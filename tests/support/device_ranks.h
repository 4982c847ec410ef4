// Worlds of ranks that are threads of the test, each with a context of its own, and the communicator's contract on device
// memory.
#ifndef ENTRAIN_TESTS_SUPPORT_DEVICE_RANKS_H_
#define ENTRAIN_TESTS_SUPPORT_DEVICE_RANKS_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/device/buffer.h"
#include "runtime/device/context.h"
#include "runtime/device/device_memory.h"
#include "tests/support/forwarding_communicator.h"
#include "tests/support/local_ranks.h"

namespace entrain {

// Takes the host tensors of a test to the device for a communicator of device memory, and back. What Start is given comes from
// an op that may not be done yet, and right after Wait other ops are issued: one takes the result, one overwrites it.
class ThroughDevice final : public ForwardingCommunicator {
 public:
  ThroughDevice(Context& context, std::unique_ptr<Communicator> inner)
      : ForwardingCommunicator(std::move(inner)), context_(context) {}

  PendingCollective StartAllReduce(const TensorView& x, ReduceOp op,
                                   std::string_view what) override {
    return Start(x, [&](const TensorView& on_device) {
      return inner().StartAllReduce(on_device, op, what);
    });
  }
  PendingCollective StartReduceScatter(const TensorView& x, const std::vector<ElementRange>& ranges,
                                       std::string_view what) override {
    return Start(x, [&](const TensorView& on_device) {
      return inner().StartReduceScatter(on_device, ranges, what);
    });
  }
  PendingCollective StartAllGather(const TensorView& x, const std::vector<ElementRange>& ranges,
                                   std::string_view what) override {
    return Start(x, [&](const TensorView& on_device) {
      return inner().StartAllGather(on_device, ranges, what);
    });
  }
  void Broadcast(const TensorView& x, int root, std::string_view what) override {
    Start(x, [&](const TensorView& on_device) {
      inner().Broadcast(on_device, root, what);
      return PendingCollective([] {});
    }).Wait();
  }
  Communicator& host() override { return inner().host(); }

 protected:
  std::unique_ptr<Communicator> Wrap(std::unique_ptr<Communicator> part) const override {
    return std::make_unique<ThroughDevice>(context_, std::move(part));
  }

 private:
  template <typename StartInner>
  PendingCollective Start(const TensorView& x, StartInner&& start) {
    // What the communicator works on, and the same memory again for what goes in and comes out.
    const int64_t half =
        (x.bytes() + Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment;
    auto memory = std::make_shared<Buffer>(context_.device(), 2 * half);
    auto* exchanged = static_cast<std::byte*>(memory->data());
    std::byte* outside = exchanged + half;
    CopyToDevice(context_, x.raw(), outside, x.bytes());
    CopyOnDevice(context_, outside, exchanged, x.bytes());
    auto pending =
        std::make_shared<PendingCollective>(start(TensorView(exchanged, x.dtype(), {x.size()})));
    return PendingCollective([this, x, memory, exchanged, outside, pending] {
      pending->Wait();
      CopyOnDevice(context_, exchanged, outside, x.bytes());
      FillBytes(context_, exchanged, 0xff, x.bytes());
      CopyToHost(context_, outside, x.raw(), x.bytes());
    });
  }

  Context& context_;
};

// Runs body(context, world) on `ranks` threads, rank r with the context that make_context(r) gives it.
inline void RunDeviceRanks(int ranks,
                           const std::function<std::unique_ptr<Context>(int rank)>& make_context,
                           const std::function<void(Context& context, Communicator& world)>& body,
                           const HostCommunicatorOptions& options = {}) {
  RunLocalRanks(
      ranks,
      [&](Communicator& world) {
        const std::unique_ptr<Context> context = make_context(world.rank());
        body(*context, world);
      },
      options);
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_DEVICE_RANKS_H_
