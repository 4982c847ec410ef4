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
      if (call.count != mine.count) Die("a send and its receive differ in size");
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
      return;
  }
}

}  // namespace

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

void Leave(const std::shared_ptr<Room>& room, int64_t number, const std::vector<Call>& calls) {
  const std::lock_guard<std::mutex> lock(room->mutex);
  Round& round = room->rounds[number];
  for (size_t i = 0; i < calls.size(); ++i) Receive(round, i, calls[i]);
  if (++round.left == room->size) room->rounds.erase(number);
}

}  // namespace entrain::emulated
