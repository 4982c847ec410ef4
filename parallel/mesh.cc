#include "parallel/mesh.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace entrain {

absl::StatusOr<MeshShape> ResolveMesh(const SourcedSize& world, const SourcedSize& dp,
                                      const SourcedSize& tp) {
  const int64_t rest = world.value / tp.value;
  const int64_t want = dp.value == 0 ? rest : dp.value;
  if (want >= 1 && want * tp.value == world.value) {
    return MeshShape{.dp = static_cast<int>(want), .tp = static_cast<int>(tp.value)};
  }
  if (dp.value == 0) {
    return absl::InvalidArgumentError(absl::StrCat("world ", world.value, " from ", world.source,
                                                   " is not a multiple of tp ", tp.value, " from ",
                                                   tp.source));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("world ", world.value, " from ", world.source, " is not dp ", dp.value, " from ",
                   dp.source, " x tp ", tp.value, " from ", tp.source, "; start ",
                   dp.value * tp.value, " ranks, or leave parallel.dp out: it is then the rest"));
}

Mesh::Mesh(std::unique_ptr<Communicator> world, const MeshShape& shape,
           const DeviceCollectives& device)
    : shape_(shape), world_(std::move(world)) {
  CHECK_EQ(world_->size(), shape.world());
  const int dp_rank = world_->rank() / shape.tp;
  const int tp_rank = world_->rank() % shape.tp;
  dp_ = world_->Split(tp_rank, dp_rank, "dp");
  tp_ = world_->Split(dp_rank, tp_rank, "tp");
  if (!device.over) return;
  device_dp_ = device.over(*dp_);
  device_tp_ = device.over(*tp_);
}

std::vector<const Communicator*> Mesh::Communicators() const {
  std::vector<const Communicator*> all = {world_.get(), dp_.get(), tp_.get(), device_dp_.get(),
                                          device_tp_.get()};
  std::erase(all, nullptr);
  return all;
}

CollectiveTime Mesh::collective_time() const {
  CollectiveTime sum;
  for (const Communicator* axis : Communicators()) sum += axis->collective_time();
  return sum;
}

std::vector<std::shared_ptr<const CollectiveTime>> Mesh::CollectiveTimesByNow() const {
  std::vector<std::shared_ptr<const CollectiveTime>> times;
  for (const Communicator* axis : Communicators()) times.push_back(axis->CollectiveTimeByNow());
  return times;
}

void Mesh::SetTimeouts(const CommTimeouts& timeouts) const {
  // Each backend has one engine for all its communicators.
  world_->SetTimeouts(timeouts);
  device_dp().SetTimeouts(timeouts);
}

WorldOperation Mesh::LastOperation() const {
  return OldestUnderWay(world_->LastOperation(), device_dp().LastOperation());
}

}  // namespace entrain
