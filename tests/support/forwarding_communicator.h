// A communicator that passes everything on to another: a test overrides what it wants to see or to break.
#ifndef ENTRAIN_TESTS_SUPPORT_FORWARDING_COMMUNICATOR_H_
#define ENTRAIN_TESTS_SUPPORT_FORWARDING_COMMUNICATOR_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "parallel/comm/communicator.h"

namespace entrain {

class ForwardingCommunicator : public Communicator {
 public:
  explicit ForwardingCommunicator(std::unique_ptr<Communicator> inner) : inner_(std::move(inner)) {}

  const std::string& name() const override { return inner_->name(); }
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  PendingCollective StartAllReduce(const TensorView& x, ReduceOp op,
                                   std::string_view what) override {
    return inner_->StartAllReduce(x, op, what);
  }
  PendingCollective StartReduceScatter(const TensorView& x, const std::vector<ElementRange>& ranges,
                                       std::string_view what) override {
    return inner_->StartReduceScatter(x, ranges, what);
  }
  PendingCollective StartAllGather(const TensorView& x, const std::vector<ElementRange>& ranges,
                                   std::string_view what) override {
    return inner_->StartAllGather(x, ranges, what);
  }
  void Broadcast(const TensorView& x, int root, std::string_view what) override {
    inner_->Broadcast(x, root, what);
  }
  void Poll() override { inner_->Poll(); }
  CollectiveTime collective_time() const override { return inner_->collective_time(); }
  std::shared_ptr<const CollectiveTime> CollectiveTimeByNow() const override {
    return inner_->CollectiveTimeByNow();
  }
  void SetTimeouts(const CommTimeouts& timeouts) override { inner_->SetTimeouts(timeouts); }
  WorldOperation LastOperation() const override { return inner_->LastOperation(); }
  std::unique_ptr<Communicator> Split(int color, int key, const std::string& name) override {
    return Wrap(inner_->Split(color, key, name));
  }

 protected:
  // The same kind around a part of the ranks.
  virtual std::unique_ptr<Communicator> Wrap(std::unique_ptr<Communicator> part) const = 0;
  Communicator& inner() const { return *inner_; }

 private:
  std::unique_ptr<Communicator> inner_;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_FORWARDING_COMMUNICATOR_H_
