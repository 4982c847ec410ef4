// Communicator: collective operations among the ranks of one axis of the mesh. One contract, several backends: on host memory
// among threads of one process or MPI processes (communicator_host); on the memory of a context's device through host memory
// (communicator_staged) or by NCCL (communicator_nccl). Which of these a run takes: device_collectives.
//
// Rules of every collective:
//   - All ranks call the same operations in the same order, with the same sizes, dtypes and reductions.
//   - It works in place on dense memory of this rank. From Start... to Wait the memory belongs to the operation. At most
//     kMaxPending (communicator_limits.h) of a communicator may be under way.
//   - A sum is made in rank order, ((x₀ + x₁) + x₂) + …, for every element, whatever the sizes of messages: the same inputs
//     give the same bits, and all ranks get the same bits. bf16 is summed in fp32 and rounded once. NCCL has an order of its
//     own for all but bf16: see communicator_nccl.
//   - Of device memory Start takes what ops that were issued before leave there, and ops issued after Wait find the result; the
//     host may be ahead of both. Only the thread that issues the context's ops may call.
//   - `what` names the operation in messages ("gradient bucket 3"); it must outlive the call.
//   - There is no error to return. When a peer does not come within the time-outs, or the transport fails, the process
//     says which operation it was and which ranks are missing, and ends (rank_failure.h): ranks that went on with
//     different data would be worse, and after a lost peer no collective can succeed.
#ifndef ENTRAIN_PARALLEL_COMM_COMMUNICATOR_H_
#define ENTRAIN_PARALLEL_COMM_COMMUNICATOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/base/status.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

enum class ReduceOp { kSum, kMax, kMin };

// Elements [begin, end) of a flat vector: what one rank owns.
struct ElementRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

// What two ranges have in common; begin = end when that is nothing.
ElementRange Common(const ElementRange& a, const ElementRange& b);

// `count` elements cut into `parts` ranges at multiples of `alignment`, as even as that allows; later ones may be empty.
std::vector<ElementRange> EvenRanges(int64_t count, int parts, int64_t alignment = 1);

// What a rank's collectives took since it began, in those that were waited for.
struct CollectiveTime {
  double exposed_seconds = 0.0;  // in Wait
  double under_way_seconds =
      0.0;  // from Start to the result, summed over collectives, also where they overlap

  CollectiveTime& operator+=(const CollectiveTime& other) {
    exposed_seconds += other.exposed_seconds;
    under_way_seconds += other.under_way_seconds;
    return *this;
  }
};

// After how long a rank gives up, says so and ends. Seconds; 0: never.
struct CommTimeouts {
  // A wait in which no message comes, although the peer's process lives: it hangs, or computes for longer than this.
  double wait_seconds = 600.0;
  // A peer's process gives no sign of life: it is stopped, or gone with its host.
  double silence_seconds = 10.0;
};

// What a rank did last with others.
struct WorldOperation {
  std::string name;               // "gradient bucket 3 over dp"; "" when there was none
  std::vector<int> awaited;       // ranks of the world that it may wait for; none: it is done
  SteadyClock::time_point begun;  // at Start
};

// A collective under way. Wait before it is destroyed.
class PendingCollective {
 public:
  PendingCollective() = default;
  explicit PendingCollective(std::function<void()> wait) : wait_(std::move(wait)) {}
  PendingCollective(PendingCollective&& other) noexcept { *this = std::move(other); }
  PendingCollective& operator=(PendingCollective&& other) noexcept;
  ~PendingCollective();

  bool valid() const { return static_cast<bool>(wait_); }
  // Returns when this rank's memory holds the result. Once.
  void Wait();

 private:
  std::function<void()> wait_;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual const std::string& name() const = 0;  // "world", "dp", "tp"
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // The communicator of the same ranks for host memory: itself, unless this one is for a device's.
  virtual Communicator& host() { return *this; }

  // x becomes the reduction of all ranks' x. f32, bf16, f64 or i32.
  virtual PendingCollective StartAllReduce(const TensorView& x, ReduceOp op,
                                           std::string_view what) = 0;
  // Of the flat vector x, rank r's ranges[r] becomes the sum there; the rest of x is then undefined. Ranges are ascending,
  // may be empty and need not cover x.
  virtual PendingCollective StartReduceScatter(const TensorView& x,
                                               const std::vector<ElementRange>& ranges,
                                               std::string_view what) = 0;
  // Of the flat vector x, every ranges[r] becomes what rank r has there.
  virtual PendingCollective StartAllGather(const TensorView& x,
                                           const std::vector<ElementRange>& ranges,
                                           std::string_view what) = 0;
  // x becomes what rank `root` has.
  virtual void Broadcast(const TensorView& x, int root, std::string_view what) = 0;

  // Lets operations under way move on: called now and then during long computations.
  virtual void Poll() = 0;

  // Of this communicator's own collectives, as far as it is known.
  virtual CollectiveTime collective_time() const = 0;
  // Of those that have been waited for by now. A device may still have to do them: the numbers are right once it has, and
  // collective_time() was asked since.
  virtual std::shared_ptr<const CollectiveTime> CollectiveTimeByNow() const {
    return std::make_shared<CollectiveTime>(collective_time());
  }

  // Of all communicators of this world, on this rank.
  virtual void SetTimeouts(const CommTimeouts& timeouts) = 0;
  // The oldest operation under way, or else the one that was begun last, on any communicator of this world. Any thread may
  // ask, also when others hang.
  virtual WorldOperation LastOperation() const = 0;

  // A communicator of the ranks that give the same color, ordered by key and then by rank. Collective.
  virtual std::unique_ptr<Communicator> Split(int color, int key, const std::string& name) = 0;

  // ---- in terms of these ----

  // Returns when it is done, as far as Wait says.
  void AllReduce(const TensorView& x, ReduceOp op, std::string_view what) {
    StartAllReduce(x, op, what).Wait();
  }
  void ReduceScatter(const TensorView& x, const std::vector<ElementRange>& ranges,
                     std::string_view what) {
    StartReduceScatter(x, ranges, what).Wait();
  }
  void AllGather(const TensorView& x, const std::vector<ElementRange>& ranges,
                 std::string_view what) {
    StartAllGather(x, ranges, what).Wait();
  }

  // ---- of the host, on a device's communicator too ----

  // Returns when every rank has come.
  void Barrier(std::string_view what);
  // text becomes what rank `root` has.
  void BroadcastText(std::string* text, int root, std::string_view what);
  // Every rank's text, by rank, on every rank: for kilobytes to a few megabytes.
  std::vector<std::string> GatherText(std::string_view mine, std::string_view what);
  // The worst status of all ranks, the same on every rank: an error before kCancelled before OK, then the lowest rank. Its
  // message ends with the rank that it came from, unless there is one rank only.
  absl::Status Agree(const absl::Status& mine, std::string_view what);
};

// Each rank must have its range of x, in ascending order: a CHECK.
void CheckRanges(const TensorView& x, const std::vector<ElementRange>& ranges, int ranks);

// "rank 3", "ranks 1, 2": at most eight of them.
std::string RanksText(const std::vector<int>& ranks);
// "in gradient bucket 3 over dp, waiting for rank 1", "past split of world", "before its first operation".
std::string Describe(const WorldOperation& operation);
// Of two kinds of operations of one rank: the older of those that are under way, or else the one that was begun later.
const WorldOperation& OldestUnderWay(const WorldOperation& a, const WorldOperation& b);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_COMMUNICATOR_H_
