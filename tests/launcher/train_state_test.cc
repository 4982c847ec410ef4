#include "launcher/train_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/local_ranks.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

TrainCounters Sample() {
  TrainCounters counters;
  counters.step = 12;
  counters.updates = 11;
  counters.bad_steps = 1;
  counters.tokens = 1248;
  counters.has_previous_entropy = true;
  counters.seed = std::numeric_limits<uint64_t>::max();
  counters.global_batch = 8;
  counters.shuffle = false;
  counters.data_fingerprint = "7b877c09";
  counters.precision = "bf16";
  counters.head_entropy = {{1.0 / 3.0, 2.5}, {0.0, 1e-300}};
  return counters;
}

TEST(TrainCountersTest, ComeBackToTheBit) {
  const auto read = ParseTrainCounters(ToJson(Sample()), "there");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(ToJson(*read), ToJson(Sample()));
  EXPECT_EQ(read->seed, Sample().seed);
  EXPECT_EQ(read->head_entropy, Sample().head_entropy);
}

// Else a checkpoint of such a step could be saved and never be continued.
TEST(TrainCountersTest, AnEntropyThatIsNotFiniteComesBackAsNaN) {
  TrainCounters counters = Sample();
  counters.head_entropy[0][1] = std::numeric_limits<double>::quiet_NaN();
  counters.head_entropy[1][0] = std::numeric_limits<double>::infinity();
  const auto read = ParseTrainCounters(ToJson(counters), "there");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->head_entropy[0][0], 1.0 / 3.0);
  EXPECT_TRUE(std::isnan(read->head_entropy[0][1]));
  EXPECT_TRUE(std::isnan(read->head_entropy[1][0]));
}

TEST(TrainCountersTest, OtherTextIsRefusedWithItsPlace) {
  for (const char* text : {"", "[]", "{}", "null", R"({"step": null})"}) {
    const auto read = ParseTrainCounters(text, "there");
    EXPECT_EQ(read.status().code(), absl::StatusCode::kDataLoss) << text;
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("there/state.json"));
  }
}

// A plan made before there is any memory is that of the rank that writes most.
TEST(MostBytesToWriteTest, IsWhatTheRanksWrite) {
  for (const Variant& variant : Variants()) {
    for (const MeshShape shape : {MeshShape{1, 1}, MeshShape{3, 1}, MeshShape{2, 2}}) {
      for (const int zero : {0, 1}) {
        SCOPED_TRACE(variant.name);
        std::vector<int64_t> planned(static_cast<size_t>(shape.world()));
        std::vector<int64_t> written(planned.size());
        OnLocalRanks(shape.world(), [&](std::unique_ptr<Communicator> world) {
          const auto rank = static_cast<size_t>(world->rank());
          const Mesh mesh(std::move(world), shape);
          Model model(variant.config, TensorParallel(mesh.tp(), false));
          planned[rank] = MostBytesToWrite(model, shape.dp);
          const auto context = Context::CreateCpu(1).value();
          model.Allocate(*context, DType::kF32, true);
          const AdamWOptimizer optimizer(model.params(), {}, mesh.dp(), zero);
          for (const StateTensor& tensor : StateToWrite(model, optimizer, mesh)) {
            written[rank] += tensor.box.elements() * static_cast<int64_t>(sizeof(float));
          }
        });
        for (int tp = 0; tp < shape.tp; ++tp) {
          int64_t most = 0;
          for (int dp = 0; dp < shape.dp; ++dp) {
            most = std::max(most, written[static_cast<size_t>(dp * shape.tp + tp)]);
          }
          EXPECT_EQ(planned[static_cast<size_t>(tp)], most);
        }
      }
    }
  }
}

}  // namespace
}  // namespace entrain
