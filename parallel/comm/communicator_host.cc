#include "parallel/comm/communicator_host.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "parallel/comm/communicator_limits.h"
#include "parallel/comm/host_engine.h"
#include "parallel/comm/host_operation.h"
#include "parallel/comm/transport_local.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"

namespace entrain {
namespace {

class HostCommunicator final : public Communicator {
 public:
  HostCommunicator(std::shared_ptr<HostEngine> engine, std::string name, std::vector<int> members,
                   int rank)
      : engine_(std::move(engine)),
        name_(std::move(name)),
        members_(std::move(members)),
        rank_(rank),
        first_tag_(engine_->NextCommunicator() * kMaxPending) {}

  const std::string& name() const override { return name_; }
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }

  PendingCollective StartAllReduce(const TensorView& x, ReduceOp op,
                                   std::string_view what) override {
    CHECK(x.dense());
    return Start(what, [&](HostGroup group) { return MakeAllReduce(std::move(group), x, op); });
  }

  PendingCollective StartReduceScatter(const TensorView& x, const std::vector<ElementRange>& ranges,
                                       std::string_view what) override {
    CheckRanges(x, ranges, size());
    return Start(what,
                 [&](HostGroup group) { return MakeReduceScatter(std::move(group), x, ranges); });
  }

  PendingCollective StartAllGather(const TensorView& x, const std::vector<ElementRange>& ranges,
                                   std::string_view what) override {
    CheckRanges(x, ranges, size());
    return Start(what, [&](HostGroup group) { return MakeAllGather(std::move(group), x, ranges); });
  }

  void Broadcast(const TensorView& x, int root, std::string_view what) override {
    CHECK(x.dense());
    CHECK(0 <= root && root < size()) << root;
    Start(what, [&](HostGroup group) { return MakeBroadcast(std::move(group), x, root); }).Wait();
  }

  void Poll() override { engine_->Poll(); }
  CollectiveTime collective_time() const override { return time_; }
  void SetTimeouts(const CommTimeouts& timeouts) override { engine_->SetTimeouts(timeouts); }
  WorldOperation LastOperation() const override { return engine_->LastOperation(); }

  std::unique_ptr<Communicator> Split(int color, int key, const std::string& name) override {
    struct Choice {
      int32_t color;
      int32_t key;
    };
    std::vector<Choice> choices(static_cast<size_t>(size()));
    choices[static_cast<size_t>(rank_)] = {color, key};
    AllGather({choices.data(), DType::kI32, {2 * size()}}, EvenRanges(2 * size(), size(), 2),
              "split of " + name_);
    std::vector<int> chosen;
    for (int r = 0; r < size(); ++r) {
      if (choices[static_cast<size_t>(r)].color == color) chosen.push_back(r);
    }
    std::stable_sort(chosen.begin(), chosen.end(), [&](int a, int b) {
      return choices[static_cast<size_t>(a)].key < choices[static_cast<size_t>(b)].key;
    });
    const auto mine = std::find(chosen.begin(), chosen.end(), rank_) - chosen.begin();
    for (int& r : chosen) r = members_[static_cast<size_t>(r)];
    return std::make_unique<HostCommunicator>(engine_, name, std::move(chosen),
                                              static_cast<int>(mine));
  }

 private:
  template <typename Make>
  PendingCollective Start(std::string_view what, Make&& make) {
    if (size() == 1) return PendingCollective([] {});
    CHECK_LT(under_way_, kMaxPending);
    ++under_way_;
    HostGroup group{&engine_->transport(), members_, rank_, first_tag_ + next_tag_};
    next_tag_ = (next_tag_ + 1) % kMaxPending;
    const SteadyClock::time_point started = SteadyClock::now();
    auto pending = engine_->Start(absl::StrCat(std::string(what), " over ", name_), members_,
                                  [&] { return make(std::move(group)); });
    return PendingCollective([this, pending, started] {
      const SteadyClock::time_point waited = SteadyClock::now();
      engine_->Wait(*pending);
      time_.exposed_seconds += SecondsBetween(waited, SteadyClock::now());
      time_.under_way_seconds += SecondsBetween(started, pending->finished);
      --under_way_;
    });
  }

  std::shared_ptr<HostEngine> engine_;
  std::string name_;
  std::vector<int> members_;  // ranks of the world
  int rank_;
  int first_tag_;
  int next_tag_ = 0;
  int under_way_ = 0;
  CollectiveTime time_;
};

}  // namespace

std::unique_ptr<Communicator> MakeHostCommunicator(std::unique_ptr<Transport> transport,
                                                   const HostCommunicatorOptions& options) {
  std::vector<int> members(static_cast<size_t>(transport->size()));
  std::iota(members.begin(), members.end(), 0);
  const int rank = transport->rank();
  auto engine = std::make_shared<HostEngine>(std::move(transport), options);
  return std::make_unique<HostCommunicator>(std::move(engine), "world", std::move(members), rank);
}

std::unique_ptr<Communicator> MakeWorldOfOne() {
  return MakeHostCommunicator(std::move(MakeLocalTransports(1).front()));
}

}  // namespace entrain
