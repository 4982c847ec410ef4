// The step before the first one: it runs all the products that steps have, and leaves nothing behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "launcher/memory_plan.h"
#include "launcher/trainer.h"
#include "launcher/tuning_warm_up.h"
#include "runtime/kernels/matmul_tuning.h"
#include "tests/support/gpu_test.h"
#include "tests/support/local_ranks.h"
#include "tests/support/run_config.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

class WarmUpTest : public ::testing::TestWithParam<Variant> {
 protected:
  // Losses and norms of two steps, and the table of products before and after them.
  struct Course {
    std::vector<double> numbers;
    std::string products_before, products_after;
  };
  Course Train(const TrainConfig& config, bool warm_up) const {
    Course course;
    OnLocalRanks(1, [&](std::unique_ptr<Communicator> world) {
      const auto context = Context::CreateCuda(0, 1).value();
      const DeviceCollectives collectives = ChooseDeviceCollectives(*context, *world);
      const Mesh mesh(std::move(world), {}, collectives);
      const TokenDataset data =
          TokenDataset::Open(FileSystem::Posix(), config.data.train, config.data.format,
                             config.model.context, config.model.vocab)
              .value();
      Model model(config.model, TensorParallel(mesh.device_tp(), false));
      AllocateForTraining(config, *context, mesh, model);
      if (warm_up) WarmUp(config, *context, mesh, model);
      course.products_before = MatmulTable(*context);
      Trainer trainer(config, *context, mesh, model, data);
      model.transformer().Initialize(*context, config.train.seed);
      trainer.Start();
      for (int step = 0; step < 2; ++step) {
        ASSERT_TRUE(trainer.ReadBatches().ok());
        const StepReport report = trainer.Step();
        course.numbers.insert(course.numbers.end(),
                              {report.loss, report.penalty, report.grad_norm});
      }
      course.products_after = MatmulTable(*context);
    });
    return course;
  }

  TemporaryFolder folder_;
};

TEST_P(WarmUpTest, RunsAllProductsAndLeavesNoTrace) {
  ENTRAIN_REQUIRE_GPU();
  TrainConfig config = SmallRun(folder_.path(), GetParam().config);
  config.train.precision = Precision::kBf16;
  config.train.micro_batch = GetParam().name == "ereg" ? 4 : 2;  // of a global batch of 4
  const Course plain = Train(config, false), warmed = Train(config, true);
  EXPECT_EQ(warmed.numbers, plain.numbers);
  EXPECT_EQ(warmed.products_before, warmed.products_after);
  EXPECT_EQ(warmed.products_after, plain.products_after);
}

// One with each kind of product and of state.
std::vector<Variant> SomeVariants() {
  std::vector<Variant> some;
  for (const Variant& variant : Variants()) {
    for (const char* name : {"ereg", "ereg_previous_step", "ereg_layernorm_gelu", "fused_wnorm",
                             "sm_snorm", "pythia", "untied_no_final_norm"}) {
      if (variant.name == name) some.push_back(variant);
    }
  }
  return some;
}

INSTANTIATE_TEST_SUITE_P(Variants, WarmUpTest, ::testing::ValuesIn(SomeVariants()),
                         [](const auto& info) { return VariantName(info.param); });

}  // namespace
}  // namespace entrain
