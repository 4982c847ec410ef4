// One training step of configurations and meshes drawn at random, against one rank.
//
// ENTRAIN_MESH_DRAW=SEED:INDEX repeats one draw, ENTRAIN_MESH_DRAW=SEED makes all draws of another seed.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <sstream>

#include "runtime/base/philox.h"
#include "tests/support/mesh_training.h"
#include "tests/support/run_config.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/test_device.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

constexpr int kDraws = 200;
constexpr uint64_t kDrawsOnGpu = 12;
constexpr uint64_t kSeed = 1;

// Random choices of one draw.
class Dice {
 public:
  Dice(uint64_t seed, uint64_t draw) : seed_(seed), draw_(draw) {}
  int64_t Below(int64_t count) {
    return static_cast<int64_t>(Philox(seed_, draw_, next_++)[0] % static_cast<uint64_t>(count));
  }
  template <typename T>
  T Of(const std::vector<T>& choices) {
    return choices[static_cast<size_t>(Below(static_cast<int64_t>(choices.size())))];
  }
  bool Coin() { return Below(2) == 1; }

 private:
  uint64_t seed_;
  uint64_t draw_;
  uint64_t next_ = 0;
};

struct Draw {
  std::string variant;
  MeshShape shape;
  TrainConfig config;

  std::string Describe() const {
    std::ostringstream text;
    text << variant << ", dp " << shape.dp << " x tp " << shape.tp << ", sequence_parallel "
         << config.parallel.sequence_parallel << ", zero " << config.parallel.zero
         << ", global_batch " << config.train.global_batch << ", micro_batch "
         << config.train.micro_batch << ", vocab " << config.model.vocab << ", context "
         << config.model.context << ", heads " << config.model.heads << ", width "
         << config.model.width << ", recompute " << config.train.recompute << ", precision "
         << kPrecisionNames.Name(config.train.precision) << ", logits "
         << kPrecisionNames.Name(config.train.logits) << ", reduce_precision "
         << kPrecisionNames.Name(config.parallel.reduce_precision);
    return text.str();
  }
};

Draw DrawCase(const std::string& folder, uint64_t seed, uint64_t index) {
  Dice dice(seed, index);
  const Variant variant = dice.Of(Variants());
  ModelConfig model = variant.config;
  Draw draw{.variant = variant.name,
            .shape = dice.Of(std::vector<MeshShape>{
                {1, 1}, {2, 1}, {3, 1}, {4, 1}, {1, 2}, {2, 2}, {1, 3}, {1, 4}})};
  const int64_t tp = draw.shape.tp;
  const int64_t head_width = model.width / model.heads;
  model.heads = tp * (1 + dice.Below(2));
  model.width = model.heads * head_width;
  model.vocab = dice.Of(std::vector<int64_t>{2, 17, 127, 300, 1000, 50257});
  model.context = 2 + dice.Below(17);
  const int64_t accumulation = 1 + dice.Below(3);
  int64_t micro_batch = 1 + dice.Below(3);
  while (micro_batch * model.context % tp != 0) ++micro_batch;
  draw.config = SmallRun(folder, model);
  TrainConfig& config = draw.config;
  config.train.micro_batch = micro_batch;
  config.train.global_batch = micro_batch * draw.shape.dp * accumulation;
  config.train.steps = 1;
  config.train.recompute = dice.Coin();
  config.train.precision = dice.Below(4) == 0 ? Precision::kBf16 : Precision::kFp32;
  config.parallel.sequence_parallel = tp > 1 && dice.Coin();
  config.parallel.zero = dice.Below(2);
  config.parallel.bucket_mb = dice.Coin() ? 25.0 : 0.001;
  if (config.train.precision == Precision::kBf16 && dice.Coin()) {
    config.parallel.reduce_precision = Precision::kBf16;
  }
  // An update that is the gradient, nearly: v̂ is small beside 1.
  config.optimizer = {.lr = 1.0, .eps = 1.0, .weight_decay = 0.0, .clip = 0.0};
  config.optimizer.schedule = Schedule::kConstant;
  config.optimizer.min_lr = 0.0;
  if (config.train.precision == Precision::kBf16 && dice.Coin()) {
    config.train.logits = Precision::kBf16;
  }
  return draw;
}

std::vector<float> WholeAfter(const TrainConfig& config, const MeshShape& shape, StepTrace* trace) {
  const std::vector<RankTrace> ranks = TrainOnMesh(config, shape);
  *trace = ranks[0].back();
  std::vector<float> values = ranks[0].back().whole;
  for (const RankTrace& rank : ranks) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) values[i] = rank.back().whole[i];
    }
  }
  return values;
}

// ‖a − b‖ / ‖b − start‖
double RelativeChange(const std::vector<float>& a, const std::vector<float>& b,
                      const std::vector<float>& start) {
  double difference = 0.0;
  double change = 0.0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    change += (double{b[i]} - start[i]) * (double{b[i]} - start[i]);
  }
  return std::sqrt(difference / std::max(change, 1e-30));
}

struct Outcome {
  StepTrace one;        // on one rank
  StepTrace many;       // on the mesh
  double change = 0.0;  // between what both made of the values
};

Outcome Compare(const Draw& draw) {
  // One rank with the same micro-steps, which the statistics belong to.
  TrainConfig alone = draw.config;
  alone.train.micro_batch = draw.config.train.micro_batch * draw.shape.dp;
  alone.parallel.sequence_parallel = false;
  Outcome outcome;
  const std::vector<float> one = WholeAfter(alone, {}, &outcome.one);
  alone.optimizer.lr = 0.0;
  StepTrace unused;
  const std::vector<float> start = WholeAfter(alone, {}, &unused);
  const std::vector<float> many = WholeAfter(draw.config, draw.shape, &outcome.many);
  EXPECT_EQ(many.size(), one.size());
  outcome.change = RelativeChange(many, one, start);
  return outcome;
}

void CheckDraw(uint64_t seed, uint64_t index) {
  const TemporaryFolder folder(TemporaryFolder::FastPlace());
  Draw draw = DrawCase(folder.path(), seed, index);
  SCOPED_TRACE(draw.Describe() + "\nrepeat: ENTRAIN_MESH_DRAW=" + std::to_string(seed) + ":" +
               std::to_string(index) + " tests/launcher_mesh_property_test");
  const bool fp32 = draw.config.train.precision == Precision::kFp32;
  const double tolerance = fp32 ? 1e-5 : 1e-2;
  const double largest_change = fp32 ? 1e-4 : 5e-2;
  Outcome outcome = Compare(draw);
  // A ReLU's argument that is zero but for rounding passes its gradient on one mesh and not on another (seen once in a
  // thousand draws: -1.5e-7 and 2.5e-7). Other values have no such place, but every real difference.
  if (outcome.change > largest_change && draw.config.model.ffn == Ffn::kRelu) {
    ++draw.config.train.seed;
    outcome = Compare(draw);
  }
  const StepTrace& want = outcome.one;
  const StepTrace& got = outcome.many;
  EXPECT_NEAR(got.loss, want.loss, tolerance * std::max(want.loss, 1e-2));
  EXPECT_NEAR(got.penalty, want.penalty, tolerance);
  EXPECT_NEAR(got.grad_norm, want.grad_norm, 10 * tolerance * want.grad_norm);
  EXPECT_LE(outcome.change, largest_change);
}

TEST(MeshPropertyTest, AStepOnAnyMeshIsAStepOnOneRank) {
  const char* text = std::getenv("ENTRAIN_MESH_DRAW");
  uint64_t seed = kSeed;
  if (text != nullptr) {
    std::istringstream in(text);
    char colon = 0;
    uint64_t index = 0;
    in >> seed;
    if (in >> colon >> index) return CheckDraw(seed, index);
  }
  // An emulated GPU takes a hundred times as long for each.
  const uint64_t draws = TestsComputeOnGpu() ? kDrawsOnGpu : kDraws;
  for (uint64_t index = 0; index < draws; ++index) CheckDraw(seed, index);
}

}  // namespace
}  // namespace entrain
