#include "tests/support/emulated_nccl/round.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "runtime/tensor/dtype.h"
#include "tests/support/emulated_gpu/emulated_gpu.h"

namespace entrain::emulated {
namespace {

size_t SizeOf(ncclDataType_t type) {
  if (type == ncclFloat64) return 8;
  return type == ncclBfloat16 ? 2 : 4;
}

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "emulated NCCL: %s\n", what.c_str());
  std::abort();
}

template <typename T>
T Combine(ncclRedOp_t op, T a, T b) {
  if (op == ncclMax) return std::max(a, b);
  if (op == ncclMin) return std::min(a, b);
  return a + b;
}
Bf16 CombineBf16(ncclRedOp_t op, Bf16 a, Bf16 b) {
  return Bf16(Combine(op, static_cast<float>(a), static_cast<float>(b)));
}

template <typename T, typename Two>
void CombineAll(std::byte* into, const std::byte* from, size_t count, Two&& two) {
  for (size_t i = 0; i < count; ++i) {
    T a, b;
    std::memcpy(&a, into + i * sizeof(T), sizeof(T));
    std::memcpy(&b, from + i * sizeof(T), sizeof(T));
    a = two(a, b);
    std::memcpy(into + i * sizeof(T), &a, sizeof(T));
  }
}

void Accumulate(const Call& call, std::byte* into, const std::byte* from) {
  const ncclRedOp_t op = call.op;
  switch (call.type) {
    case ncclFloat32:
      return CombineAll<float>(into, from, call.count,
                               [op](float a, float b) { return Combine(op, a, b); });
    case ncclFloat64:
      return CombineAll<double>(into, from, call.count,
                                [op](double a, double b) { return Combine(op, a, b); });
    case ncclInt32:
      return CombineAll<int32_t>(into, from, call.count,
                                 [op](int32_t a, int32_t b) { return Combine(op, a, b); });
    case ncclBfloat16:
      return CombineAll<Bf16>(into, from, call.count,
                              [op](Bf16 a, Bf16 b) { return CombineBf16(op, a, b); });
    default:
      Die("a type that it does not know");
  }
}

// The other ranks' part in call number i of this rank: of collectives their i-th call, of a receive the matching send.
const std::byte* SentBy(const Round& round, int rank, size_t i, const Call& mine) {
  const Contribution& theirs = *round.of_rank[static_cast<size_t>(rank)];
  if (mine.kind == Kind::kReceive) {
    for (size_t k = 0; k < theirs.calls.size(); ++k) {
      const Call& call = theirs.calls[k];
      if (call.kind != Kind::kSend || call.peer != mine.comm->rank) continue;
      if (call.count != mine.count || call.type != mine.type) {
        Die("a send and its receive differ in size");
      }
      return theirs.sent[k].data();
    }
    Die("a receive without a send");
  }
  if (i >= theirs.calls.size()) Die("ranks make different numbers of calls");
  const Call& call = theirs.calls[i];
  if (call.kind != mine.kind || call.count != mine.count || call.type != mine.type ||
      call.op != mine.op || call.peer != mine.peer) {
    Die("ranks make different calls");
  }
  return theirs.sent[i].data();
}

void CheckReceived(const Round& round, const Call& send) {
  const Contribution& theirs = *round.of_rank[static_cast<size_t>(send.peer)];
  const bool received =
      std::any_of(theirs.calls.begin(), theirs.calls.end(), [&](const Call& call) {
        return call.kind == Kind::kReceive && call.peer == send.comm->rank;
      });
  if (!received) Die("a send without a receive");
}

struct Bytes {
  const std::byte* begin = nullptr;
  size_t size = 0;
};
Bytes Sent(const Call& call) { return {static_cast<const std::byte*>(call.from), BytesSent(call)}; }
Bytes Received(const Call& call) {
  return {static_cast<const std::byte*>(call.to), BytesReceived(call)};
}
bool Overlap(const Bytes& a, const Bytes& b) {
  return a.begin < b.begin + b.size && b.begin < a.begin + a.size;
}

// Where a call that works in place must have what it sends, from where its result begins.
std::ptrdiff_t InPlace(const Call& call) {
  const auto bytes = static_cast<std::ptrdiff_t>(call.count * SizeOf(call.type));
  if (call.kind == Kind::kAllGather) return call.comm->rank * bytes;
  return call.kind == Kind::kReduceScatter ? -call.comm->rank * bytes : 0;
}

// Nobody may rely on what is where a result is to come, nor change what is being sent.
std::vector<Held> Hold(const std::vector<Call>& calls) {
  for (const Call& call : calls) {
    if (BytesReceived(call) > 0) std::memset(call.to, 0xff, BytesReceived(call));
  }
  std::vector<Held> held;
  for (const Call& call : calls) {
    for (const Bytes& bytes : {Sent(call), Received(call)}) {
      if (bytes.size > 0) held.push_back({bytes.begin, {bytes.begin, bytes.begin + bytes.size}});
    }
  }
  return held;
}

void CheckUntouched(const std::vector<Held>& held) {
  for (const Held& one : held) {
    if (std::memcmp(one.memory, one.contents.data(), one.contents.size()) != 0) {
      Die("memory of an operation was written to before it was done");
    }
  }
}

// The `bytes` from `offset` on of what all ranks sent, combined from the highest rank down.
std::vector<std::byte> Combined(const Round& round, size_t i, const Call& call, size_t offset) {
  const size_t bytes = call.count * SizeOf(call.type);
  const int size = call.comm->room->size;
  const std::byte* last = SentBy(round, size - 1, i, call) + offset;
  std::vector<std::byte> sum(last, last + bytes);
  for (int r = size - 2; r >= 0; --r) {
    Accumulate(call, sum.data(), SentBy(round, r, i, call) + offset);
  }
  return sum;
}

void Receive(const Round& round, size_t i, const Call& call) {
  const size_t bytes = call.count * SizeOf(call.type);
  const auto rank = static_cast<size_t>(call.comm->rank);
  auto* to = static_cast<std::byte*>(call.to);
  switch (call.kind) {
    case Kind::kAllReduce:
    case Kind::kReduce:
    case Kind::kReduceScatter: {
      const size_t offset = call.kind == Kind::kReduceScatter ? rank * bytes : 0;
      const std::vector<std::byte> sum = Combined(round, i, call, offset);
      if (BytesReceived(call) > 0) std::memcpy(to, sum.data(), bytes);
      return;
    }
    case Kind::kAllGather:
      for (int r = 0; r < call.comm->room->size; ++r) {
        std::memcpy(to + static_cast<size_t>(r) * bytes, SentBy(round, r, i, call), bytes);
      }
      return;
    case Kind::kBroadcast:
    case Kind::kReceive:
      std::memcpy(to, SentBy(round, call.peer, i, call), bytes);
      return;
    case Kind::kSend:
      return CheckReceived(round, call);
  }
}

}  // namespace

void CheckMemory(const std::vector<Call>& calls) {
  for (size_t i = 0; i < calls.size(); ++i) {
    const Bytes received = Received(calls[i]);
    for (size_t k = 0; k < calls.size(); ++k) {
      if (k != i && (Overlap(received, Sent(calls[k])) || Overlap(received, Received(calls[k])))) {
        Die("calls of a group overlap");
      }
    }
    const Bytes sent = Sent(calls[i]);
    if (Overlap(received, sent) && sent.begin != received.begin + InPlace(calls[i])) {
      Die("what a call sends and receives overlaps, and not in place");
    }
  }
}

size_t BytesSent(const Call& call) {
  const size_t bytes = call.count * SizeOf(call.type);
  const auto size = static_cast<size_t>(call.comm->room->size);
  switch (call.kind) {
    case Kind::kReduceScatter:
      return bytes * size;
    case Kind::kBroadcast:
      return call.comm->rank == call.peer ? bytes : 0;
    case Kind::kReceive:
      return 0;
    default:
      return bytes;
  }
}
size_t BytesReceived(const Call& call) {
  const size_t bytes = call.count * SizeOf(call.type);
  switch (call.kind) {
    case Kind::kAllGather:
      return bytes * static_cast<size_t>(call.comm->room->size);
    case Kind::kReduce:
      return call.comm->rank == call.peer ? bytes : 0;
    case Kind::kSend:
      return 0;
    default:
      return bytes;
  }
}

void Arrive(const std::shared_ptr<Room>& room, int rank, int64_t number,
            const std::vector<Call>& calls) {
  auto mine = std::make_unique<Contribution>();
  mine->calls = calls;
  for (const Call& call : calls) {
    std::vector<std::byte> copy(BytesSent(call));
    if (!copy.empty()) std::memcpy(copy.data(), call.from, copy.size());
    mine->sent.push_back(std::move(copy));
  }
  {
    const std::lock_guard<std::mutex> lock(room->mutex);
    Round& round = room->rounds[number];
    round.held[rank] = Hold(calls);
    round.of_rank.resize(static_cast<size_t>(room->size));
    round.of_rank[static_cast<size_t>(rank)] = std::move(mine);
    ++round.arrived;
  }
  WakeWork();
}

bool AllArrived(const std::shared_ptr<Room>& room, int64_t number) {
  const std::lock_guard<std::mutex> lock(room->mutex);
  return room->rounds[number].arrived == room->size;
}

void Leave(const std::shared_ptr<Room>& room, int rank, int64_t number,
           const std::vector<Call>& calls) {
  const std::lock_guard<std::mutex> lock(room->mutex);
  Round& round = room->rounds[number];
  CheckUntouched(round.held[rank]);
  for (size_t i = 0; i < calls.size(); ++i) Receive(round, i, calls[i]);
  if (++round.left == room->size) room->rounds.erase(number);
}

}  // namespace entrain::emulated
