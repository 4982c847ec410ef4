// What ranks of the emulated NCCL call together, and what comes of it.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_NCCL_ROUND_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_NCCL_ROUND_H_

#include <cuda_runtime.h>
#include <nccl.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace entrain::emulated {

enum class Kind { kAllReduce, kReduce, kReduceScatter, kAllGather, kBroadcast, kSend, kReceive };

struct Call {
  Kind kind;
  const void* from;
  void* to;
  size_t count;  // as NCCL counts for this kind
  ncclDataType_t type;
  ncclRedOp_t op;
  int peer;  // or root
  ncclComm_t comm;
  cudaStream_t stream;
};

// What a rank has for the others in one round: its calls, and copies of what it sends.
struct Contribution {
  std::vector<Call> calls;
  std::vector<std::vector<std::byte>> sent;
};

// Memory of a rank's calls while they are under way: nobody else may touch it.
struct Held {
  const void* memory;
  std::vector<std::byte> contents;
};

struct Round {
  std::vector<std::unique_ptr<Contribution>> of_rank;
  std::map<int, std::vector<Held>> held;  // by rank
  int arrived = 0;
  int left = 0;
};

// What the ranks of a communicator share.
struct Room {
  std::mutex mutex;
  int size = 0;
  std::set<int> ranks;
  std::set<int> devices;
  bool shares_a_device = false;
  int connecting = 0;  // ranks that have begun their first operation
  std::map<int64_t, Round> rounds;
};

}  // namespace entrain::emulated

struct ncclComm {
  std::shared_ptr<entrain::emulated::Room> room;
  int rank = 0;
  int device = 0;
  bool connecting = false;  // it has begun its first operation
  int64_t next_round = 0;
  std::vector<entrain::emulated::Call> in_progress;  // not on the stream yet
  int polls_left = 0;
  bool finalized = false;
  cudaStream_t stream = nullptr;  // that had the last call
  std::shared_ptr<std::atomic<int>> unfinished = std::make_shared<std::atomic<int>>(0);  // rounds
};

namespace entrain::emulated {

// Ends the process where calls of a group, or the two sides of one that works in place, overlap as NCCL does not allow.
void CheckMemory(const std::vector<Call>& calls);

// Bytes that a call reads and writes on its rank.
size_t BytesSent(const Call& call);
size_t BytesReceived(const Call& call);

// The work of a round on a rank's stream: what it has for the others; whether all have come; and what it gets.
void Arrive(const std::shared_ptr<Room>& room, int rank, int64_t number,
            const std::vector<Call>& calls);
bool AllArrived(const std::shared_ptr<Room>& room, int64_t number);
void Leave(const std::shared_ptr<Room>& room, int rank, int64_t number,
           const std::vector<Call>& calls);

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_NCCL_ROUND_H_
