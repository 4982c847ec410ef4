#include "tests/support/emulated_nccl/emulated_nccl.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "tests/support/emulated_gpu/emulated_gpu.h"
#include "tests/support/emulated_gpu/streams.h"
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

// Of each device whether the last operation issued to it is done: they run in the order of their issue, whichever communicators
// they are of, as NCCL_LAUNCH_ORDER_IMPLICIT has it where the driver is not of the newest.
struct LaunchOrder {
  std::mutex mutex;
  std::map<int, std::shared_ptr<std::atomic<bool>>> last;
};
LaunchOrder& TheLaunchOrder() {
  static auto* order = new LaunchOrder;
  return *order;
}

// Sets *before, if there is one, and makes `mine` the last.
void Follow(int device, std::shared_ptr<std::atomic<bool>> mine,
            std::shared_ptr<std::atomic<bool>>* before) {
  LaunchOrder& order = TheLaunchOrder();
  const std::lock_guard<std::mutex> lock(order.mutex);
  *before = std::exchange(order.last[device], std::move(mine));
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
  const auto done = std::make_shared<std::atomic<bool>>(false);
  std::shared_ptr<std::atomic<bool>> before;
  Follow(comm->device, done, &before);
  if (before) EnqueueGate(stream, [before] { return before->load(); });
  Enqueue(stream, [room, rank, number, calls] { Arrive(room, rank, number, calls); });
  EnqueueGate(stream, [room, number] { return AllArrived(room, number); });
  Enqueue(stream, [room, rank, number, calls, done, unfinished = comm->unfinished] {
    Leave(room, rank, number, calls);
    *done = true;
    --*unfinished;
  });
}

// Ranks connect in their first operation: it is not issued before all have called one.
void BeginConnecting(ncclComm_t comm) {
  if (std::exchange(comm->connecting, true)) return;
  const std::lock_guard<std::mutex> lock(comm->room->mutex);
  ++comm->room->connecting;
}

bool IsConnected(const ncclComm& comm) {
  if (!comm.connecting) return true;  // there is nothing to connect for
  const std::lock_guard<std::mutex> lock(comm.room->mutex);
  return comm.room->connecting == comm.room->size;
}

ncclResult_t EndGroup() {
  const std::vector<Call> calls = std::exchange(group_calls, {});
  CheckMemory(calls);
  for (const Call& call : calls) {
    BeginConnecting(call.comm);
    call.comm->in_progress.push_back(call);
    call.comm->polls_left = kPollsInProgress;
  }
  return calls.empty() ? ncclSuccess : ncclInProgress;
}

ncclResult_t AddCall(const Call& call) {
  const Call& c = call;
  if (c.comm == nullptr || c.comm->finalized || c.comm->polls_left > 0) return ncclInvalidUsage;
  if (!c.comm->in_progress.empty() || c.stream->device != c.comm->device) return ncclInvalidUsage;
  if ((BytesSent(c) > 0 && !IsDeviceMemory(c.from, BytesSent(c))) ||
      (BytesReceived(c) > 0 && !IsDeviceMemory(c.to, BytesReceived(c)))) {
    return ncclInvalidArgument;
  }
  group_calls.push_back(call);
  return group_depth > 0 ? ncclSuccess : EndGroup();
}

bool AllJoined(const ncclComm& comm) {
  const std::lock_guard<std::mutex> lock(comm.room->mutex);
  return static_cast<int>(comm.room->ranks.size()) == comm.room->size;
}

bool SharesADevice(const ncclComm& comm) {
  const std::lock_guard<std::mutex> lock(comm.room->mutex);
  return comm.room->shares_a_device;
}

}  // namespace

void BreakNccl(int result) { broken = result; }

}  // namespace entrain::emulated

// ---- NCCL's interface ----

using entrain::emulated::AddCall;
using entrain::emulated::AllJoined;
using entrain::emulated::IsConnected;
using entrain::emulated::Issue;
using entrain::emulated::Kind;
using entrain::emulated::SharesADevice;

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
  int device = 0;
  cudaGetDevice(&device);
  entrain::emulated::Room& shared = *room->second;
  const std::lock_guard<std::mutex> room_lock(shared.mutex);
  if (rank < 0 || rank >= size || (shared.size != 0 && shared.size != size) ||
      !shared.ranks.insert(rank).second) {
    return ncclInvalidArgument;
  }
  *comm = new ncclComm{.room = room->second, .rank = rank, .device = device};
  shared.size = size;
  if (!shared.devices.insert(device).second) shared.shares_a_device = true;
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  *state = static_cast<ncclResult_t>(entrain::emulated::broken.load());
  if (*state == ncclSuccess && SharesADevice(*comm)) *state = ncclInvalidUsage;
  if (*state != ncclSuccess) return ncclSuccess;
  // The end flushes what is on the stream.
  if (comm->finalized && *comm->unfinished > 0) {
    cudaStreamQuery(comm->stream);
    *state = ncclInProgress;
  } else if (!AllJoined(*comm) || !IsConnected(*comm) || comm->polls_left > 0) {
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
  return AddCall({Kind::kAllReduce, from, to, count, type, op, 0, comm, stream});
}

ncclResult_t ncclReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream) {
  return AddCall({Kind::kReduce, from, to, count, type, op, root, comm, stream});
}

ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return AddCall({Kind::kReduceScatter, from, to, count, type, op, 0, comm, stream});
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return AddCall({Kind::kAllGather, from, to, count, type, ncclSum, 0, comm, stream});
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return AddCall({Kind::kBroadcast, from, to, count, type, ncclSum, root, comm, stream});
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return AddCall({Kind::kSend, from, nullptr, count, type, ncclSum, peer, comm, stream});
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return AddCall({Kind::kReceive, nullptr, to, count, type, ncclSum, peer, comm, stream});
}
