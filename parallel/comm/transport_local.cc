#include "parallel/comm/transport_local.h"

#include <cstring>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

// A sent message waits here until its receiver has copied it out of the sender's memory.
struct Parcel {
  const void* data;
  int64_t bytes;
  bool taken = false;
};

// The messages of one sender, receiver and tag: the n-th receive gets the n-th send.
struct Box {
  int64_t sent = 0;
  int64_t asked_for = 0;
  std::map<int64_t, std::shared_ptr<Parcel>> parcels;
};

// What all ranks share.
struct PostOffice {
  std::mutex mutex;
  std::map<std::tuple<int, int, int>, Box> boxes;  // from, to, tag
};

class LocalTransport final : public Transport {
 public:
  LocalTransport(std::shared_ptr<PostOffice> office, int rank, int size)
      : office_(std::move(office)), rank_(rank), size_(size) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string Describe() const override {
    return absl::StrCat(rank_, " of ", size_, " (a thread of this process)");
  }

  Message Send(int to, int tag, const void* data, int64_t bytes) override {
    auto parcel = std::make_shared<Parcel>(Parcel{data, bytes});
    const std::lock_guard<std::mutex> lock(office_->mutex);
    Box& box = office_->boxes[{rank_, to, tag}];
    box.parcels[box.sent++] = parcel;
    return Remember({.sent = parcel});
  }

  Message Receive(int from, int tag, void* data, int64_t bytes) override {
    const std::lock_guard<std::mutex> lock(office_->mutex);
    Box& box = office_->boxes[{from, rank_, tag}];
    return Remember({.box = &box, .number = box.asked_for++, .data = data, .bytes = bytes});
  }

  bool Done(Message message) override {
    const auto at = pending_.find(message);
    CHECK(at != pending_.end()) << "message " << message << " is not under way";
    if (!(at->second.sent ? IsTaken(*at->second.sent) : Take(at->second))) return false;
    pending_.erase(at);
    return true;
  }

 private:
  struct Pending {
    std::shared_ptr<Parcel> sent;  // null: to be received
    Box* box = nullptr;
    int64_t number = 0;
    void* data = nullptr;
    int64_t bytes = 0;
  };

  Message Remember(Pending pending) {
    pending_[next_] = std::move(pending);
    return next_++;
  }

  bool IsTaken(const Parcel& parcel) {
    const std::lock_guard<std::mutex> lock(office_->mutex);
    return parcel.taken;
  }

  // Copies outside the lock: others may go on.
  bool Take(const Pending& pending) {
    std::shared_ptr<Parcel> parcel;
    {
      const std::lock_guard<std::mutex> lock(office_->mutex);
      const auto at = pending.box->parcels.find(pending.number);
      if (at == pending.box->parcels.end()) return false;
      parcel = at->second;
      pending.box->parcels.erase(at);
    }
    CHECK_EQ(parcel->bytes, pending.bytes);
    std::memcpy(pending.data, parcel->data, static_cast<size_t>(pending.bytes));
    const std::lock_guard<std::mutex> lock(office_->mutex);
    parcel->taken = true;
    return true;
  }

  std::shared_ptr<PostOffice> office_;
  int rank_;
  int size_;
  Message next_ = 0;
  std::unordered_map<Message, Pending> pending_;
};

}  // namespace

std::vector<std::unique_ptr<Transport>> MakeLocalTransports(int size) {
  auto office = std::make_shared<PostOffice>();
  std::vector<std::unique_ptr<Transport>> transports;
  transports.reserve(static_cast<size_t>(size));
  for (int rank = 0; rank < size; ++rank) {
    transports.push_back(std::make_unique<LocalTransport>(office, rank, size));
  }
  return transports;
}

}  // namespace entrain
