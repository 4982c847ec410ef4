// What a dry run says a rank sends is what it sends.
#include "launcher/communication_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "tests/support/forwarding_communicator.h"
#include "tests/support/mesh_training.h"
#include "tests/support/run_config.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

// Bytes sent over each axis by all ranks together.
struct Traffic {
  std::mutex mutex;
  std::map<std::string, double> bytes;
};

class CountingCommunicator final : public ForwardingCommunicator {
 public:
  CountingCommunicator(std::unique_ptr<Communicator> inner, Traffic* traffic)
      : ForwardingCommunicator(std::move(inner)), traffic_(traffic) {}

  PendingCollective StartAllReduce(const TensorView& x, ReduceOp op,
                                   std::string_view what) override {
    Count(2.0, x);
    return ForwardingCommunicator::StartAllReduce(x, op, what);
  }
  PendingCollective StartReduceScatter(const TensorView& x, const std::vector<ElementRange>& ranges,
                                       std::string_view what) override {
    Count(1.0, x);
    return ForwardingCommunicator::StartReduceScatter(x, ranges, what);
  }
  PendingCollective StartAllGather(const TensorView& x, const std::vector<ElementRange>& ranges,
                                   std::string_view what) override {
    Count(1.0, x);
    return ForwardingCommunicator::StartAllGather(x, ranges, what);
  }

 private:
  std::unique_ptr<Communicator> Wrap(std::unique_ptr<Communicator> part) const override {
    return std::make_unique<CountingCommunicator>(std::move(part), traffic_);
  }
  void Count(double times, const TensorView& x) {
    const std::lock_guard<std::mutex> lock(traffic_->mutex);
    traffic_->bytes[name()] += times * (size() - 1) / size() * static_cast<double>(x.bytes());
  }

  Traffic* traffic_;
};

// What all ranks sent over each axis in so many steps, and before the first.
std::map<std::string, double> Sent(TrainConfig config, const MeshShape& shape, int64_t steps) {
  config.train.steps = steps;
  Traffic traffic;
  TrainOnMesh(config, shape, [&](std::unique_ptr<Communicator> world) {
    return std::make_unique<CountingCommunicator>(std::move(world), &traffic);
  });
  return traffic.bytes;
}

class CommunicationPlanTest : public ::testing::TestWithParam<Variant> {};

TEST_P(CommunicationPlanTest, IsWhatRanksSend) {
  TemporaryFolder folder(TemporaryFolder::FastPlace());
  TrainConfig config = SmallRun(folder.path(), GetParam().config);
  config.model.heads = 4;
  config.model.width = 96;
  config.train.global_batch = 32;
  config.train.micro_batch =
      8;  // large enough that what a plan leaves out is small beside the stream
  const MeshShape shape{2, 2};
  for (const bool sequence_parallel : {false, true}) {
    for (const int zero : {0, 1}) {
      config.parallel.sequence_parallel = sequence_parallel;
      config.parallel.zero = zero;
      config.train.recompute = zero == 1;
      config.train.precision = zero == 1 ? Precision::kBf16 : Precision::kFp32;
      std::map<std::string, double> one = Sent(config, shape, 1);
      std::map<std::string, double> two = Sent(config, shape, 2);
      const Model model(config.model, TensorParallel::Planned(shape.tp, sequence_parallel));
      const CommunicationPlan plan = PlanCommunication(config, shape, model);
      const double ranks = shape.world();
      EXPECT_NEAR((two["dp"] - one["dp"]) / ranks, plan.dp, 0.01 * plan.dp);
      EXPECT_NEAR((two["tp"] - one["tp"]) / ranks, plan.tp, 0.02 * plan.tp);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, CommunicationPlanTest, ::testing::ValuesIn(Variants()),
                         [](const auto& info) { return info.param.name; });

TEST(CommunicationPlanOfOneTest, SendsNothing) {
  TrainConfig config;
  config.model.layers = 1;
  const CommunicationPlan plan = PlanCommunication(config, {}, Model(config.model));
  EXPECT_EQ(plan.dp, 0.0);
  EXPECT_EQ(plan.tp, 0.0);
}

}  // namespace
}  // namespace entrain
