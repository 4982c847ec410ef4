#include "parallel/comm/host_operation.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "parallel/comm/ordered_reduce.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

// What is sent whole to everyone: the time of a message is then mostly its latency.
constexpr int64_t kDirectBytes = int64_t{8} << 10;
// A piece of a rank's range that is reduced at a time: small enough to be in the cache when it is summed, large enough
// for the transport's single copy between processes to pay.
constexpr int64_t kReduceBytes = int64_t{512} << 10;
// A message of what is only moved.
constexpr int64_t kMoveBytes = int64_t{4} << 20;
// Pieces whose messages are under way at a time: one arrives while the other is summed.
constexpr int64_t kWindow = 2;

std::byte* BytesOf(const TensorView& x) { return static_cast<std::byte*>(x.raw()); }

// An operation's messages.
class MessageOperation : public HostOperation {
 public:
  explicit MessageOperation(HostGroup group) : group_(std::move(group)) {}

  std::vector<int> Awaited() const override {
    std::vector<int> ranks;
    for (const InFlight& m : received_.empty() ? sent_ : received_) ranks.push_back(m.peer);
    std::sort(ranks.begin(), ranks.end());
    ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    return ranks;
  }
  int64_t completed_messages() const override { return completed_; }

 protected:
  const HostGroup& group() const { return group_; }

  void Send(int to, const void* data, int64_t bytes) {
    sent_.push_back({group_.transport->Send(group_.member(to), group_.tag, data, bytes), to, 0});
  }
  // `piece`: messages of a higher one are awaited later.
  void Receive(int from, void* data, int64_t bytes, int64_t piece = 0) {
    received_.push_back(
        {group_.transport->Receive(group_.member(from), group_.tag, data, bytes), from, piece});
  }

  void TestMessages() {
    Test(received_);
    Test(sent_);
  }
  // As of the last test.
  bool Received(int64_t piece) const {
    return std::none_of(received_.begin(), received_.end(),
                        [&](const InFlight& m) { return m.piece <= piece; });
  }
  bool AllDone() const { return received_.empty() && sent_.empty(); }

 private:
  struct InFlight {
    Transport::Message message;
    int peer;
    int64_t piece;
  };

  void Test(std::vector<InFlight>& messages) {
    const size_t before = messages.size();
    std::erase_if(messages, [&](const InFlight& m) { return group_.transport->Done(m.message); });
    completed_ += static_cast<int64_t>(before - messages.size());
  }

  HostGroup group_;
  std::vector<InFlight> sent_;
  std::vector<InFlight> received_;
  int64_t completed_ = 0;
};

class DirectAllReduce final : public MessageOperation {
 public:
  DirectAllReduce(HostGroup group, const TensorView& x, ReduceOp op)
      : MessageOperation(std::move(group)),
        x_(x),
        op_(op),
        vectors_(static_cast<size_t>(this->group().size()) * static_cast<size_t>(x.bytes())) {
    const int mine = this->group().rank;
    std::memcpy(VectorOf(mine), x.raw(), static_cast<size_t>(x.bytes()));
    for (int r = 0; r < this->group().size(); ++r) {
      if (r == mine) continue;
      Receive(r, VectorOf(r), x.bytes());
      Send(r, VectorOf(mine), x.bytes());
    }
  }

  bool Advance() override {
    TestMessages();
    if (!AllDone()) return false;
    std::vector<const void*> sources;
    sources.reserve(static_cast<size_t>(group().size()));
    for (int r = 0; r < group().size(); ++r) sources.push_back(VectorOf(r));
    OrderedReduce(op_, x_.dtype(), sources, x_.raw(), x_.size());
    return true;
  }

 private:
  std::byte* VectorOf(int r) { return vectors_.data() + r * x_.bytes(); }

  TensorView x_;
  ReduceOp op_;
  std::vector<std::byte> vectors_;
};

// Piece k of a range in elements; empty beyond its end.
ElementRange PieceOf(const ElementRange& range, int64_t k, int64_t piece) {
  return {std::min(range.end, range.begin + k * piece),
          std::min(range.end, range.begin + (k + 1) * piece)};
}

class ReduceScatter final : public MessageOperation {
 public:
  ReduceScatter(HostGroup group, const TensorView& x, ReduceOp op, std::vector<ElementRange> ranges)
      : MessageOperation(std::move(group)),
        x_(x),
        op_(op),
        ranges_(std::move(ranges)),
        piece_(kReduceBytes / SizeOf(x.dtype())) {
    for (const ElementRange& range : ranges_) {
      num_pieces_ = std::max(num_pieces_, (range.size() + piece_ - 1) / piece_);
    }
    const int64_t held = std::min(piece_, ranges_[static_cast<size_t>(this->group().rank)].size());
    slot_bytes_ = held * SizeOf(x.dtype());
    arrived_.resize(static_cast<size_t>(kWindow * this->group().size() * slot_bytes_));
  }

  bool Advance() override {
    while (reduced_ < num_pieces_) {
      while (begun_ < std::min(num_pieces_, reduced_ + kWindow)) Begin(begun_++);
      TestMessages();
      if (!Received(reduced_)) return false;
      Reduce(reduced_++);
    }
    TestMessages();
    return AllDone();
  }

 private:
  const ElementRange& Mine() const { return ranges_[static_cast<size_t>(group().rank)]; }
  std::byte* Slot(int64_t k, int r) {
    return arrived_.data() + (k % kWindow * group().size() + r) * slot_bytes_;
  }
  std::byte* At(int64_t element) const { return BytesOf(x_) + element * SizeOf(x_.dtype()); }

  void Begin(int64_t k) {
    const ElementRange mine = PieceOf(Mine(), k, piece_);
    for (int r = 0; r < group().size(); ++r) {
      if (r == group().rank) continue;
      const ElementRange theirs = PieceOf(ranges_[static_cast<size_t>(r)], k, piece_);
      if (mine.size() > 0) Receive(r, Slot(k, r), mine.size() * SizeOf(x_.dtype()), k);
      if (theirs.size() > 0) Send(r, At(theirs.begin), theirs.size() * SizeOf(x_.dtype()));
    }
  }

  void Reduce(int64_t k) {
    const ElementRange mine = PieceOf(Mine(), k, piece_);
    if (mine.size() == 0) return;
    std::vector<const void*> sources;
    sources.reserve(static_cast<size_t>(group().size()));
    for (int r = 0; r < group().size(); ++r) {
      sources.push_back(r == group().rank ? At(mine.begin) : Slot(k, r));
    }
    OrderedReduce(op_, x_.dtype(), sources, At(mine.begin), mine.size());
  }

  TensorView x_;
  ReduceOp op_;
  std::vector<ElementRange> ranges_;
  int64_t piece_;  // elements
  int64_t num_pieces_ = 0;
  int64_t begun_ = 0;
  int64_t reduced_ = 0;
  int64_t slot_bytes_ = 0;
  std::vector<std::byte> arrived_;  // [window, rank, slot]
};

// Cuts a memory range into messages.
template <typename Message>
void ForEachMessage(std::byte* data, int64_t bytes, Message&& message) {
  for (int64_t begin = 0; begin < bytes; begin += kMoveBytes) {
    message(data + begin, std::min(kMoveBytes, bytes - begin));
  }
}

class AllGather final : public MessageOperation {
 public:
  AllGather(HostGroup group, const TensorView& x, const std::vector<ElementRange>& ranges)
      : MessageOperation(std::move(group)) {
    const int mine = this->group().rank;
    auto bytes_of = [&](int r) {
      return ranges[static_cast<size_t>(r)].size() * SizeOf(x.dtype());
    };
    auto data_of = [&](int r) {
      return BytesOf(x) + ranges[static_cast<size_t>(r)].begin * SizeOf(x.dtype());
    };
    for (int r = 0; r < this->group().size(); ++r) {
      if (r == mine) continue;
      ForEachMessage(data_of(r), bytes_of(r),
                     [&](std::byte* data, int64_t bytes) { Receive(r, data, bytes); });
      ForEachMessage(data_of(mine), bytes_of(mine),
                     [&](std::byte* data, int64_t bytes) { Send(r, data, bytes); });
    }
  }
  bool Advance() override {
    TestMessages();
    return AllDone();
  }
};

// Reduced where each part is owned, then gathered.
class ScatteredAllReduce final : public HostOperation {
 public:
  ScatteredAllReduce(HostGroup group, const TensorView& x, ReduceOp op)
      : group_(std::move(group)),
        x_(x),
        ranges_(EvenRanges(x.size(), group_.size(), kCacheLine)),
        phase_(std::make_unique<ReduceScatter>(group_, x, op, ranges_)) {}

  bool Advance() override {
    if (!phase_->Advance()) return false;
    if (gathering_) return true;
    gathering_ = true;
    earlier_messages_ = phase_->completed_messages();
    // Only now: what is received lies where the parts for others were sent from.
    phase_ = std::make_unique<AllGather>(group_, x_, ranges_);
    return phase_->Advance();
  }
  std::vector<int> Awaited() const override { return phase_->Awaited(); }
  int64_t completed_messages() const override {
    return earlier_messages_ + phase_->completed_messages();
  }

 private:
  static constexpr int64_t kCacheLine = 64;  // elements; of any dtype at least one line

  HostGroup group_;
  TensorView x_;
  std::vector<ElementRange> ranges_;
  std::unique_ptr<HostOperation> phase_;
  bool gathering_ = false;
  int64_t earlier_messages_ = 0;
};

class Broadcast final : public MessageOperation {
 public:
  Broadcast(HostGroup group, const TensorView& x, int root) : MessageOperation(std::move(group)) {
    ForEachMessage(BytesOf(x), x.bytes(), [&](std::byte* data, int64_t bytes) {
      if (this->group().rank != root) return Receive(root, data, bytes);
      for (int r = 0; r < this->group().size(); ++r) {
        if (r != root) Send(r, data, bytes);
      }
    });
  }
  bool Advance() override {
    TestMessages();
    return AllDone();
  }
};

}  // namespace

std::unique_ptr<HostOperation> MakeAllReduce(HostGroup group, const TensorView& x, ReduceOp op) {
  if (x.bytes() <= kDirectBytes) {
    return std::make_unique<DirectAllReduce>(std::move(group), x, op);
  }
  return std::make_unique<ScatteredAllReduce>(std::move(group), x, op);
}

std::unique_ptr<HostOperation> MakeReduceScatter(HostGroup group, const TensorView& x,
                                                 const std::vector<ElementRange>& ranges) {
  return std::make_unique<ReduceScatter>(std::move(group), x, ReduceOp::kSum, ranges);
}

std::unique_ptr<HostOperation> MakeAllGather(HostGroup group, const TensorView& x,
                                             const std::vector<ElementRange>& ranges) {
  return std::make_unique<AllGather>(std::move(group), x, ranges);
}

std::unique_ptr<HostOperation> MakeBroadcast(HostGroup group, const TensorView& x, int root) {
  return std::make_unique<Broadcast>(std::move(group), x, root);
}

}  // namespace entrain
