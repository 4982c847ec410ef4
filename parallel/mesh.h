// Mesh: the world of ranks as dp × tp, and a communicator for each axis.
#ifndef ENTRAIN_PARALLEL_MESH_H_
#define ENTRAIN_PARALLEL_MESH_H_

#include <memory>
#include <string>

#include "parallel/comm/communicator.h"

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
  // group stays on one node.
  Mesh(std::unique_ptr<Communicator> world, const MeshShape& shape);

  Communicator& world() const { return *world_; }
  // The ranks that hold the same part of the model, each with its own sequences.
  Communicator& dp() const { return *dp_; }
  // The ranks that share one model.
  Communicator& tp() const { return *tp_; }
  const MeshShape& shape() const { return shape_; }
  // The rank that speaks, writes metrics and verdicts.
  bool is_first() const { return world_->rank() == 0; }

 private:
  MeshShape shape_;
  std::unique_ptr<Communicator> world_;
  std::unique_ptr<Communicator> dp_;
  std::unique_ptr<Communicator> tp_;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_MESH_H_
