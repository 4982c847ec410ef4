// The host collectives as operations that move on in small steps: each Advance does what can be done without waiting.
#ifndef ENTRAIN_PARALLEL_COMM_HOST_OPERATION_H_
#define ENTRAIN_PARALLEL_COMM_HOST_OPERATION_H_

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/transport.h"

namespace entrain {

// Where an operation takes place: the ranks of a communicator, and the tag that is this operation's alone.
struct HostGroup {
  Transport* transport = nullptr;
  std::vector<int> members;  // ranks in the transport, in the communicator's order
  int rank = 0;              // mine among them
  int tag = 0;

  int size() const { return static_cast<int>(members.size()); }
  int member(int r) const { return members[static_cast<size_t>(r)]; }
};

class HostOperation {
 public:
  virtual ~HostOperation() = default;
  HostOperation() = default;
  HostOperation(const HostOperation&) = delete;
  HostOperation& operator=(const HostOperation&) = delete;

  // Does what can be done now; true when complete.
  virtual bool Advance() = 0;
  // Ranks of the communicator whose messages are awaited.
  virtual std::vector<int> Awaited() const = 0;
  // Grows with every message that is complete: shows that the operation is alive.
  virtual int64_t completed_messages() const = 0;
};

// x becomes the reduction of all ranks' x.
std::unique_ptr<HostOperation> MakeAllReduce(HostGroup group, const TensorView& x, ReduceOp op);
// ranges[rank] of x becomes the sum there.
std::unique_ptr<HostOperation> MakeReduceScatter(HostGroup group, const TensorView& x,
                                                 const std::vector<ElementRange>& ranges);
std::unique_ptr<HostOperation> MakeAllGather(HostGroup group, const TensorView& x,
                                             const std::vector<ElementRange>& ranges);
std::unique_ptr<HostOperation> MakeBroadcast(HostGroup group, const TensorView& x, int root);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_HOST_OPERATION_H_
