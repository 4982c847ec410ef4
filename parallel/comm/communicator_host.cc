#include "parallel/comm/communicator_host.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "parallel/comm/comm_failure.h"
#include "parallel/comm/host_operation.h"
#include "parallel/comm/transport_local.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

using Clock = std::chrono::steady_clock;

// Communicators of one world, and operations of one communicator that may be under way at a time: they share MPI's tags.
constexpr int kMaxCommunicators = 32;
constexpr int kMaxPending = (kMaxTag + 1) / kMaxCommunicators;

double SecondsBetween(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// An operation under way, as its waiter and the engine share it.
struct Pending {
  std::unique_ptr<HostOperation> operation;
  std::string what;
  const std::string* communicator = nullptr;  // its name
  Clock::time_point finished;                 // to be read when done
  std::atomic<bool> done = false;

  // Moves it on; true when it is done.
  bool Advance() {
    if (!operation->Advance()) return false;
    finished = Clock::now();
    done = true;
    return true;
  }
};

// The transport of a process, the operations under way on it, and whoever moves them on. One lock covers all calls of the
// transport, which needs no more of MPI than MPI_THREAD_SERIALIZED.
class Engine {
 public:
  Engine(std::unique_ptr<Transport> transport, const HostCommunicatorOptions& options)
      : transport_(std::move(transport)), options_(options) {
    if (options_.progress_microseconds > 0) thread_ = std::thread([this] { RunThread(); });
  }

  ~Engine() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      CHECK(pending_.empty()) << "a communicator ended before its operations";
      stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  Transport& transport() { return *transport_; }

  template <typename Make>
  std::shared_ptr<Pending> Start(std::string_view what, const std::string& communicator,
                                 Make&& make) {
    auto pending = std::make_shared<Pending>();
    pending->what = std::string(what);
    pending->communicator = &communicator;
    const std::lock_guard<std::mutex> lock(mutex_);
    pending->operation = make();
    if (!pending->Advance()) pending_.push_back(pending);
    wake_.notify_one();
    return pending;
  }

  void Poll() {
    const std::lock_guard<std::mutex> lock(mutex_);
    PollLocked();
  }

  // Polls until `pending` is done: at first without a pause, for small operations end in microseconds, then with short
  // ones, for the peer may need this core.
  void Wait(Pending& pending) {
    constexpr int kEagerPolls = 200;
    constexpr std::chrono::microseconds kPause(20);
    auto last_progress = Clock::now();
    int64_t last_messages = -1;
    for (int polls = 0; !pending.done; ++polls) {
      Poll();
      if (pending.done) return;
      if (polls < kEagerPolls) {
        std::this_thread::yield();
        continue;
      }
      const int64_t messages = MessagesOf(pending);
      if (messages != last_messages) last_progress = Clock::now();
      last_messages = messages;
      const std::chrono::duration<double> silence = Clock::now() - last_progress;
      // The lowest rank speaks first, and the launcher ends the others: one message, not one a rank.
      if (silence.count() > options_.timeout_seconds + 2.0 * transport_->rank()) TimeOut(pending);
      std::this_thread::sleep_for(kPause);
    }
  }

  int NextCommunicator() {
    CHECK_LT(communicators_, kMaxCommunicators);
    return communicators_++;
  }

 private:
  void PollLocked() {
    pending_.remove_if([](const std::shared_ptr<Pending>& p) { return p->Advance(); });
  }

  int64_t MessagesOf(const Pending& pending) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return pending.operation->completed_messages();
  }

  [[noreturn]] void TimeOut(const Pending& pending) {
    const std::lock_guard<std::mutex> lock(mutex_);
    FailCommunication(
        transport_->Describe(),
        absl::StrFormat("%s over %s: nothing came from rank %s of %s for %g s; that rank hangs, is "
                        "gone, or takes longer than the time-out",
                        pending.what, *pending.communicator,
                        absl::StrJoin(pending.operation->Awaited(), ", "), *pending.communicator,
                        options_.timeout_seconds));
  }

  void RunThread() {
    const std::chrono::microseconds interval(options_.progress_microseconds);
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stopping_) {
      if (pending_.empty()) {
        wake_.wait(lock);
        continue;
      }
      PollLocked();
      lock.unlock();
      std::this_thread::sleep_for(interval);
      lock.lock();
    }
  }

  std::unique_ptr<Transport> transport_;
  HostCommunicatorOptions options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::list<std::shared_ptr<Pending>> pending_;
  bool stopping_ = false;
  int communicators_ = 0;
  std::thread thread_;
};

class HostCommunicator final : public Communicator {
 public:
  HostCommunicator(std::shared_ptr<Engine> engine, std::string name, std::vector<int> members,
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
    CheckRanges(x, ranges);
    return Start(what,
                 [&](HostGroup group) { return MakeReduceScatter(std::move(group), x, ranges); });
  }

  PendingCollective StartAllGather(const TensorView& x, const std::vector<ElementRange>& ranges,
                                   std::string_view what) override {
    CheckRanges(x, ranges);
    return Start(what, [&](HostGroup group) { return MakeAllGather(std::move(group), x, ranges); });
  }

  void Broadcast(const TensorView& x, int root, std::string_view what) override {
    CHECK(x.dense());
    CHECK(0 <= root && root < size()) << root;
    Start(what, [&](HostGroup group) { return MakeBroadcast(std::move(group), x, root); }).Wait();
  }

  void Poll() override { engine_->Poll(); }
  CollectiveTime collective_time() const override { return time_; }

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
    const Clock::time_point started = Clock::now();
    auto pending = engine_->Start(what, name_, [&] { return make(std::move(group)); });
    return PendingCollective([this, pending, started] {
      const Clock::time_point waited = Clock::now();
      engine_->Wait(*pending);
      time_.exposed_seconds += SecondsBetween(waited, Clock::now());
      time_.under_way_seconds += SecondsBetween(started, pending->finished);
      --under_way_;
    });
  }

  void CheckRanges(const TensorView& x, const std::vector<ElementRange>& ranges) const {
    CHECK(x.dense());
    CHECK_EQ(static_cast<int>(ranges.size()), size());
    int64_t end = 0;
    for (const ElementRange& range : ranges) {
      CHECK(end <= range.begin && range.begin <= range.end && range.end <= x.size())
          << "range [" << range.begin << ", " << range.end << ") of " << x.size();
      end = range.end;
    }
  }

  std::shared_ptr<Engine> engine_;
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
  auto engine = std::make_shared<Engine>(std::move(transport), options);
  return std::make_unique<HostCommunicator>(std::move(engine), "world", std::move(members), rank);
}

std::unique_ptr<Communicator> MakeWorldOfOne() {
  return MakeHostCommunicator(std::move(MakeLocalTransports(1).front()));
}

}  // namespace entrain
