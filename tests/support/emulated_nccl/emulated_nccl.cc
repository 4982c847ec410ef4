#include "tests/support/emulated_nccl/emulated_nccl.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/support/emulated_gpu/emulated_gpu.h"
#include "tests/support/emulated_nccl/round.h"

namespace entrain::emulated {
namespace {

constexpr int kPollsInProgress = 2;
std::atomic<int> broken = ncclSuccess;

struct Hotel {
  std::mutex mutex;
  int64_t next = 1;
  std::map<int64_t, std::shared_ptr<Room>> rooms;
};
Hotel& TheHotel() {
  static auto* hotel = new Hotel;
  return *hotel;
}

thread_local int group_depth = 0;
thread_local std::vector<Call> group_calls;

void Issue(ncclComm_t comm) {
  const std::vector<Call> calls = std::exchange(comm->in_progress, {});
  if (calls.empty()) return;
  const cudaStream_t stream = calls.front().stream;
  comm->stream = stream;
  ++*comm->unfinished;
  const int64_t number = comm->next_round++;
  const auto room = comm->room;
  const int rank = comm->rank;
  Enqueue(stream, [room, rank, number, calls] { Arrive(room, rank, number, calls); });
  EnqueueGate(stream, [room, number] { return AllArrived(room, number); });
  Enqueue(stream, [room, number, calls, unfinished = comm->unfinished] {
    Leave(room, number, calls);
    --*unfinished;
  });
}

ncclResult_t EndGroup() {
  const std::vector<Call> calls = std::exchange(group_calls, {});
  for (const Call& call : calls) {
    call.comm->in_progress.push_back(call);
    call.comm->polls_left = kPollsInProgress;
  }
  return calls.empty() ? ncclSuccess : ncclInProgress;
}

ncclResult_t Add(const Call& call) {
  const Call& c = call;
  if (c.comm == nullptr || c.comm->finalized || c.comm->polls_left > 0) return ncclInvalidUsage;
  if ((BytesSent(c) > 0 && !IsDeviceMemory(c.from, BytesSent(c))) ||
      (BytesReceived(c) > 0 && !IsDeviceMemory(c.to, BytesReceived(c)))) {
    return ncclInvalidArgument;
  }
  group_calls.push_back(call);
  return group_depth > 0 ? ncclSuccess : EndGroup();
}

bool AllJoined(const ncclComm& comm) {
  const std::lock_guard<std::mutex> lock(comm.room->mutex);
  return comm.room->joined == comm.room->size;
}

}  // namespace

void BreakNccl(int result) { broken = result; }

}  // namespace entrain::emulated

// ---- NCCL's interface ----

using entrain::emulated::Add;
using entrain::emulated::AllJoined;
using entrain::emulated::Issue;
using entrain::emulated::Kind;

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclRemoteError ? "remote process exited or there was a network error"
                                   : "an error of the emulated NCCL";
}

const char* ncclGetLastError(ncclComm_t /*comm*/) { return ""; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  auto& hotel = entrain::emulated::TheHotel();
  const std::lock_guard<std::mutex> lock(hotel.mutex);
  const int64_t number = hotel.next++;
  hotel.rooms[number] = std::make_shared<entrain::emulated::Room>();
  std::memset(id->internal, 0x5a, sizeof(id->internal));
  std::memcpy(id->internal, &number, sizeof(number));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidArgument;
  int64_t number = 0;
  std::memcpy(&number, id.internal, sizeof(number));
  auto& hotel = entrain::emulated::TheHotel();
  const std::lock_guard<std::mutex> lock(hotel.mutex);
  const auto room = hotel.rooms.find(number);
  if (room == hotel.rooms.end()) return ncclInvalidArgument;
  *comm = new ncclComm{.room = room->second, .rank = rank};
  const std::lock_guard<std::mutex> room_lock(room->second->mutex);
  room->second->size = size;
  ++room->second->joined;
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  *state = static_cast<ncclResult_t>(entrain::emulated::broken.load());
  if (*state != ncclSuccess) return ncclSuccess;
  // The end flushes what is on the stream.
  if (comm->finalized && *comm->unfinished > 0) {
    cudaStreamQuery(comm->stream);
    *state = ncclInProgress;
  } else if (!AllJoined(*comm) || comm->polls_left > 0) {
    comm->polls_left = std::max(0, comm->polls_left - 1);
    *state = ncclInProgress;
  } else {
    Issue(comm);
  }
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (comm->polls_left > 0 || !comm->in_progress.empty()) return ncclInvalidUsage;
  comm->finalized = true;
  comm->polls_left = entrain::emulated::kPollsInProgress;
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (!comm->finalized || comm->polls_left > 0) return ncclInvalidUsage;
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++entrain::emulated::group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--entrain::emulated::group_depth > 0) return ncclSuccess;
  return entrain::emulated::EndGroup();
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return Add({Kind::kAllReduce, from, to, count, type, op, 0, comm, stream});
}

ncclResult_t ncclReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream) {
  return Add({Kind::kReduce, from, to, count, type, op, root, comm, stream});
}

ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return Add({Kind::kReduceScatter, from, to, count, type, op, 0, comm, stream});
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return Add({Kind::kAllGather, from, to, count, type, ncclSum, 0, comm, stream});
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return Add({Kind::kBroadcast, from, to, count, type, ncclSum, root, comm, stream});
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return Add({Kind::kSend, from, nullptr, count, type, ncclSum, peer, comm, stream});
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return Add({Kind::kReceive, nullptr, to, count, type, ncclSum, peer, comm, stream});
}
