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

struct Round {
  std::vector<std::unique_ptr<Contribution>> of_rank;
  int arrived = 0;
  int left = 0;
};

// What the ranks of a communicator share.
struct Room {
  std::mutex mutex;
  int size = 0;
  int joined = 0;
  std::map<int64_t, Round> rounds;
};

}  // namespace entrain::emulated

struct ncclComm {
  std::shared_ptr<entrain::emulated::Room> room;
  int rank = 0;
  int64_t next_round = 0;
  std::vector<entrain::emulated::Call> in_progress;  // not on the stream yet
  int polls_left = 0;
  bool finalized = false;
  cudaStream_t stream = nullptr;  // that had the last call
  std::shared_ptr<std::atomic<int>> unfinished = std::make_shared<std::atomic<int>>(0);  // rounds
};

namespace entrain::emulated {

// Bytes that a call reads and writes on its rank.
size_t BytesSent(const Call& call);
size_t BytesReceived(const Call& call);

// The work of a round on a rank's stream: what it has for the others; whether all have come; and what it gets.
void Arrive(const std::shared_ptr<Room>& room, int rank, int64_t number,
            const std::vector<Call>& calls);
bool AllArrived(const std::shared_ptr<Room>& room, int64_t number);
void Leave(const std::shared_ptr<Room>& room, int64_t number, const std::vector<Call>& calls);

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_NCCL_ROUND_H_
