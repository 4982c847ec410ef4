#include "parallel/comm/communicator_staged.h"

#include <algorithm>
#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/communicator_limits.h"
#include "parallel/comm/staging_memory.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/device/transfers.h"

namespace entrain {
namespace {

using HostStart = std::function<PendingCollective(const TensorView& staged)>;

// What an operation exchanges: which elements of x the host needs, and which are the result.
struct Exchange {
  std::vector<ElementRange> sent;
  std::vector<ElementRange> received;
  HostStart start;
};

struct StagedOperation {
  TensorView on_device;
  std::vector<ElementRange> received;
  HostStart start;
  PinnedBuffer memory;
  TensorView on_host;
  std::unique_ptr<Transfer> arrival;  // of the last element on the host; null: nothing travels
  bool is_started = false;
  PendingCollective collective;
  SteadyClock::time_point begun;
};

void* At(const TensorView& x, int64_t element) {
  return static_cast<std::byte*>(x.raw()) + element * SizeOf(x.dtype());
}

// Ranges that touch become one, empty ones none. `without`: the number of a range that is left out.
std::vector<ElementRange> Runs(const std::vector<ElementRange>& ranges, int without = -1) {
  std::vector<ElementRange> runs;
  for (int i = 0; i < static_cast<int>(ranges.size()); ++i) {
    const ElementRange& range = ranges[static_cast<size_t>(i)];
    if (i == without || range.size() == 0) continue;
    if (!runs.empty() && runs.back().end == range.begin) {
      runs.back().end = range.end;
    } else {
      runs.push_back(range);
    }
  }
  return runs;
}

class StagedCommunicator final : public Communicator {
 public:
  StagedCommunicator(Context& context, Communicator& host,
                     std::unique_ptr<Communicator> owned_host = {})
      : context_(context),
        owned_host_(std::move(owned_host)),
        host_(host),
        exchange_(host.Split(0, host.rank(), host.name())),
        memory_(context.device()),
        transfers_(Transfers::Create(context)) {}
  ~StagedCommunicator() override {
    CHECK(waiting_.empty()) << "a communicator ended before its operations";
  }

  const std::string& name() const override { return exchange_->name(); }
  int rank() const override { return exchange_->rank(); }
  int size() const override { return exchange_->size(); }
  Communicator& host() override { return host_; }

  PendingCollective StartAllReduce(const TensorView& x, ReduceOp op,
                                   std::string_view what) override {
    const std::vector<ElementRange> all = Runs({{0, x.size()}});
    return Start(x, {.sent = all,
                     .received = all,
                     .start = [this, op, what = std::string(what)](const TensorView& staged) {
                       return exchange_->StartAllReduce(staged, op, what);
                     }});
  }

  PendingCollective StartReduceScatter(const TensorView& x, const std::vector<ElementRange>& ranges,
                                       std::string_view what) override {
    CheckRanges(x, ranges, size());
    return Start(x, {.sent = Runs(ranges),
                     .received = Runs({Mine(ranges)}),
                     .start = [this, ranges, what = std::string(what)](const TensorView& staged) {
                       return exchange_->StartReduceScatter(staged, ranges, what);
                     }});
  }

  PendingCollective StartAllGather(const TensorView& x, const std::vector<ElementRange>& ranges,
                                   std::string_view what) override {
    CheckRanges(x, ranges, size());
    return Start(x, {.sent = Runs({Mine(ranges)}),
                     .received = Runs(ranges, rank()),
                     .start = [this, ranges, what = std::string(what)](const TensorView& staged) {
                       return exchange_->StartAllGather(staged, ranges, what);
                     }});
  }

  void Broadcast(const TensorView& x, int root, std::string_view what) override {
    const std::vector<ElementRange> all = Runs({{0, x.size()}});
    const std::vector<ElementRange> none;
    Start(x, {.sent = rank() == root ? all : none,
              .received = rank() == root ? none : all,
              .start =
                  [this, root, what = std::string(what)](const TensorView& staged) {
                    exchange_->Broadcast(staged, root, what);
                    return PendingCollective([] {});
                  }})
        .Wait();
  }

  void Poll() override {
    StartArrived();
    exchange_->Poll();
  }

  CollectiveTime collective_time() const override { return time_; }
  void SetTimeouts(const CommTimeouts& timeouts) override { exchange_->SetTimeouts(timeouts); }
  WorldOperation LastOperation() const override { return exchange_->LastOperation(); }

  std::unique_ptr<Communicator> Split(int color, int key, const std::string& name) override {
    auto part = host_.Split(color, key, name);
    Communicator& ranks = *part;
    return std::make_unique<StagedCommunicator>(context_, ranks, std::move(part));
  }

 private:
  const ElementRange& Mine(const std::vector<ElementRange>& ranges) const {
    return ranges[static_cast<size_t>(rank())];
  }

  PendingCollective Start(const TensorView& x, Exchange exchange) {
    CHECK(x.dense());
    if (size() == 1) return PendingCollective([] {});
    CHECK_LT(under_way_, kMaxPending);
    ++under_way_;
    auto operation = std::make_shared<StagedOperation>();
    operation->begun = SteadyClock::now();
    operation->on_device = x;
    operation->received = std::move(exchange.received);
    operation->start = std::move(exchange.start);
    operation->memory = memory_.Take(x.bytes());
    operation->on_host = {operation->memory.data(), x.dtype(), {x.size()}};
    for (const ElementRange& run : exchange.sent) {
      operation->arrival = transfers_->StartToHost(
          At(x, run.begin), At(operation->on_host, run.begin), run.size() * SizeOf(x.dtype()));
    }
    waiting_.push_back(operation);
    Poll();
    return PendingCollective([this, operation] { Finish(*operation); });
  }

  // Begins the exchanges whose elements are there, none before an earlier one.
  void StartArrived() {
    while (!waiting_.empty()) {
      StagedOperation& next = *waiting_.front();
      if (next.arrival && !next.arrival->Done()) return;
      next.is_started = true;
      next.collective = next.start(next.on_host);
      waiting_.pop_front();
    }
  }

  void Finish(StagedOperation& operation) {
    const SteadyClock::time_point waited = SteadyClock::now();
    WaitUntil([&] {
      Poll();
      return operation.is_started;
    });
    operation.collective.Wait();
    std::unique_ptr<Transfer> last_copy;
    for (const ElementRange& run : operation.received) {
      last_copy = transfers_->StartToDevice(At(operation.on_host, run.begin),
                                            At(operation.on_device, run.begin),
                                            run.size() * SizeOf(operation.on_host.dtype()));
    }
    memory_.Give(std::move(operation.memory), std::move(last_copy));
    const SteadyClock::time_point finished = SteadyClock::now();
    time_.exposed_seconds += SecondsBetween(waited, finished);
    time_.under_way_seconds += SecondsBetween(operation.begun, finished);
    --under_way_;
  }

  Context& context_;
  std::unique_ptr<Communicator> owned_host_;
  Communicator& host_;
  // Of this object alone: its order of operations is not that of the host's.
  std::unique_ptr<Communicator> exchange_;
  StagingMemory memory_;
  std::unique_ptr<Transfers> transfers_;
  std::deque<std::shared_ptr<StagedOperation>> waiting_;  // for their elements
  int under_way_ = 0;
  CollectiveTime time_;
};

}  // namespace

std::unique_ptr<Communicator> MakeStagedCommunicator(Context& context, Communicator& host) {
  return std::make_unique<StagedCommunicator>(context, host);
}

}  // namespace entrain
