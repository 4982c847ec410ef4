// Mesh: the world of ranks as dp × tp, and communicators for each axis: of host memory, and of the memory where tensors are.
#ifndef ENTRAIN_PARALLEL_MESH_H_
#define ENTRAIN_PARALLEL_MESH_H_

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/device_collectives.h"

namespace entrain {

struct MeshShape {
  int dp = 1;
  int tp = 1;

  int world() const { return dp * tp; }
};

// A number and where it came from, for messages: {6, "mpirun -n 6"}.
struct SourcedSize {
  int64_t value = 0;
  std::string source;
};

// dp × tp over a world of ranks; dp.value = 0: what tp leaves. InvalidArgument names every factor with its source when they
// do not multiply to the world.
absl::StatusOr<MeshShape> ResolveMesh(const SourcedSize& world, const SourcedSize& dp,
                                      const SourcedSize& tp);

class Mesh {
 public:
  // Collective over `world`, whose size must be the shape's. tp is innermost: rank = dp rank · tp + tp rank, so that a tp
  // group stays on one node. `device`: of the same world; left out, tensors are in host memory.
  Mesh(std::unique_ptr<Communicator> world, const MeshShape& shape,
       const DeviceCollectives& device = {});

  // Of host memory.
  Communicator& world() const { return *world_; }
  // The ranks that hold the same part of the model, each with its own sequences.
  Communicator& dp() const { return *dp_; }
  // The ranks that share one model.
  Communicator& tp() const { return *tp_; }
  // The same ranks for tensors in the memory of contexts: their host() are the ones above.
  Communicator& device_dp() const { return device_dp_ ? *device_dp_ : *dp_; }
  Communicator& device_tp() const { return device_tp_ ? *device_tp_ : *tp_; }

  // Of all communicators of the mesh, on this rank: as far as it is known.
  CollectiveTime collective_time() const;
  // Of each, as CollectiveTimeByNow says.
  std::vector<std::shared_ptr<const CollectiveTime>> CollectiveTimesByNow() const;
  void SetTimeouts(const CommTimeouts& timeouts) const;
  // Any thread may ask.
  WorldOperation LastOperation() const;

  const MeshShape& shape() const { return shape_; }
  // The rank that speaks, writes metrics and verdicts.
  bool is_first() const { return world_->rank() == 0; }

 private:
  std::vector<const Communicator*> Communicators() const;

  MeshShape shape_;
  std::unique_ptr<Communicator> world_;
  std::unique_ptr<Communicator> dp_;
  std::unique_ptr<Communicator> tp_;
  std::unique_ptr<Communicator> device_dp_;  // null: the one above
  std::unique_ptr<Communicator> device_tp_;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_MESH_H_
