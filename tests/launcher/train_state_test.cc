#include "launcher/train_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

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

}  // namespace
}  // namespace entrain
