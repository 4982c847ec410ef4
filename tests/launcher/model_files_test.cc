// Export and import for every variant: the same loss, whichever way the weights went.
#include "launcher/model_files.h"

#include <gtest/gtest.h>

#include "tests/support/model_harness.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

class ModelFilesTest : public ::testing::TestWithParam<Variant> {
 protected:
  ModelFilesTest() : original_(GetParam().config, {}) {
    original_.Randomize(31);
    original_.RandomBatch(32);
    // Spectral norm: u of a trained model has converged, and only then is W/σ its own effective matrix.
    for (int i = 0; i < 2000; ++i)
      original_.model().transformer().BeginStep(original_.context(), true);
    loss_ = original_.Evaluate();
  }

  Losses Reread(const ExportOptions& options) {
    const absl::Status written = WriteModelFolder(FileSystem::Posix(), folder_.path(),
                                                  original_.context(), original_.model(), options);
    EXPECT_TRUE(written.ok()) << written.ToString();
    const auto config = ReadModelFolderConfig(FileSystem::Posix(), folder_.path());
    EXPECT_TRUE(config.ok()) << config.status().ToString();
    ModelHarness copy(*config, {});
    copy.LoadFolder(folder_.path());
    copy.RandomBatch(32);
    for (int i = 0; i < 2000; ++i) copy.model().transformer().BeginStep(copy.context(), true);
    return copy.Evaluate();
  }

  TemporaryFolder folder_;
  ModelHarness original_;
  Losses loss_;
};

TEST_P(ModelFilesTest, Fp32RoundTrip) {
  const Losses again = Reread({});
  EXPECT_NEAR(again.loss, loss_.loss, 1e-5 * loss_.loss);
  EXPECT_NEAR(again.penalty, loss_.penalty, 1e-5);
}

TEST_P(ModelFilesTest, RawFactorsRoundTrip) {
  const Losses again = Reread({.raw_factors = true});
  EXPECT_NEAR(again.loss, loss_.loss, 1e-5 * loss_.loss);
}

TEST_P(ModelFilesTest, Bf16IsNear) {
  const Losses again = Reread({.dtype = DType::kBf16});
  EXPECT_NEAR(again.loss, loss_.loss, 2e-2 * loss_.loss);
}

INSTANTIATE_TEST_SUITE_P(All, ModelFilesTest, ::testing::ValuesIn(Variants()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace entrain
