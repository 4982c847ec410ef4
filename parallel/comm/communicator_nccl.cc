#include "parallel/comm/communicator_nccl.h"

#include <cuda_runtime.h>

#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "parallel/comm/communicator_limits.h"
#include "parallel/comm/engine_nccl.h"
#include "parallel/comm/ranks_nccl.h"
#include "runtime/base/check.h"
#include "runtime/device/buffer.h"
#include "runtime/device/cuda_device.h"

namespace entrain {
namespace {

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<NcclEngine> engine, Communicator& host,
                   std::unique_ptr<Communicator> owned_host = {})
      : engine_(std::move(engine)),
        owned_host_(std::move(owned_host)),
        host_(host),
        ops_(engine_->context().cuda().stream) {
    if (size() == 1) return;
    ranks_ = std::make_unique<NcclRanks>(engine_, host_);
    Connect();
  }
  ~NcclCommunicator() override {
    CHECK_EQ(under_way_, 0) << "a communicator ended before its operations";
  }

  const std::string& name() const override { return host_.name(); }
  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  Communicator& host() override { return host_; }

  PendingCollective StartAllReduce(const TensorView& x, ReduceOp op,
                                   std::string_view what) override {
    CHECK(x.dense());
    return Start(what, [&](const std::string& name) { ranks_->AllReduce(name, x, op); });
  }

  PendingCollective StartReduceScatter(const TensorView& x, const std::vector<ElementRange>& ranges,
                                       std::string_view what) override {
    CheckRanges(x, ranges, size());
    return Start(what, [&](const std::string& name) { ranks_->ReduceScatter(name, x, ranges); });
  }

  PendingCollective StartAllGather(const TensorView& x, const std::vector<ElementRange>& ranges,
                                   std::string_view what) override {
    CheckRanges(x, ranges, size());
    return Start(what, [&](const std::string& name) { ranks_->AllGather(name, x, ranges); });
  }

  void Broadcast(const TensorView& x, int root, std::string_view what) override {
    CHECK(x.dense());
    CHECK(0 <= root && root < size()) << root;
    Start(what, [&](const std::string& name) { ranks_->Broadcast(name, x, root); }).Wait();
  }

  // NCCL moves on by itself.
  void Poll() override {}

  CollectiveTime collective_time() const override {
    TakeTimes();
    return time_;
  }
  // The host may be a step ahead of the device.
  std::shared_ptr<const CollectiveTime> CollectiveTimeByNow() const override { return by_now_; }
  void SetTimeouts(const CommTimeouts& timeouts) override {
    engine_->SetTimeouts(timeouts);
    host_.SetTimeouts(timeouts);
  }
  WorldOperation LastOperation() const override {
    return OldestUnderWay(engine_->LastOperation(), host_.LastOperation());
  }

  std::unique_ptr<Communicator> Split(int color, int key, const std::string& name) override {
    auto part = host_.Split(color, key, name);
    Communicator& ranks = *part;
    return std::make_unique<NcclCommunicator>(engine_, ranks, std::move(part));
  }

 private:
  struct WaitedFor {
    std::shared_ptr<NcclOperation> operation;
    std::shared_ptr<CollectiveTime> time;  // until it was done
  };

  // NCCL connects ranks in the first operation, for which it takes memory and lets the host wait for the others: here, before
  // it is asked what memory is free, and not within a step.
  void Connect() {
    const Buffer number(DeviceKind::kCuda, sizeof(float));
    AllReduce({number.data(), DType::kF32, {1}}, ReduceOp::kSum, "connecting");
  }

  template <typename Issue>
  PendingCollective Start(std::string_view what, Issue&& issue) {
    if (size() == 1) return PendingCollective([] {});
    CHECK_LT(under_way_, kMaxPending);
    ++under_way_;
    auto operation = std::make_shared<NcclOperation>();
    operation->name = absl::StrCat(std::string(what), " over ", name());
    operation->others = ranks_->others();
    operation->started = SteadyClock::now();
    ops_before_.Record(ops_);
    ops_before_.HoldUp(ranks_->stream());
    operation->begun.Record(ranks_->stream());
    engine_->Watch(operation);
    issue(operation->name);
    operation->ended.Record(ranks_->stream());
    operation->issued = true;
    return PendingCollective([this, operation] { Finish(operation); });
  }

  void Finish(const std::shared_ptr<NcclOperation>& operation) {
    operation->halted.Record(ops_);
    operation->ended.HoldUp(ops_);
    operation->resumed.Record(ops_);
    --under_way_;
    by_now_ = std::make_shared<CollectiveTime>();
    waited_for_.push_back({operation, by_now_});
    TakeTimes();
  }

  // Of what the device has done by now.
  void TakeTimes() const {
    while (!waited_for_.empty() && waited_for_.front().operation->resumed.IsPast()) {
      const NcclOperation& operation = *waited_for_.front().operation;
      time_.under_way_seconds += operation.ended.SecondsSince(operation.begun);
      time_.exposed_seconds += operation.resumed.SecondsSince(operation.halted);
      *waited_for_.front().time = time_;
      waited_for_.pop_front();
    }
  }

  std::shared_ptr<NcclEngine> engine_;
  std::unique_ptr<Communicator> owned_host_;
  Communicator& host_;
  cudaStream_t ops_;
  CudaEvent ops_before_;
  std::unique_ptr<NcclRanks> ranks_;  // null: there are no others
  int under_way_ = 0;
  mutable std::deque<WaitedFor> waited_for_;  // their times are not known yet
  mutable CollectiveTime time_;
  std::shared_ptr<CollectiveTime> by_now_ = std::make_shared<CollectiveTime>();
};

}  // namespace

std::shared_ptr<NcclEngine> MakeNcclEngine(Context& context, Communicator& world,
                                           const CommTimeouts& timeouts) {
  return std::make_shared<NcclEngine>(context, world, timeouts);
}

std::unique_ptr<Communicator> MakeNcclCommunicator(std::shared_ptr<NcclEngine> engine,
                                                   Communicator& host) {
  return std::make_unique<NcclCommunicator>(std::move(engine), host);
}

}  // namespace entrain
