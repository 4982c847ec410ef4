// Export and import for every variant: the same loss, whichever way the weights went.
#include "launcher/model_files.h"

#include <gtest/gtest.h>

#include <cstring>

#include "runtime/io/safetensors.h"
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
    const bool spectral = GetParam().config.ffn_weight_norm == WeightNorm::kSpectral;
    for (int i = 0; i < (spectral ? 2000 : 1); ++i) {
      original_.model().transformer().BeginStep(original_.context(), true);
    }
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

// Rewrites a folder's F32 tensors as F16.
void RewriteAsHalf(const std::string& folder) {
  const std::string path = folder + "/model.safetensors";
  std::vector<std::vector<uint16_t>> halves;
  std::vector<TensorToWrite> tensors;
  {
    const auto file = SafetensorsFile::Open(FileSystem::Posix(), path);
    ASSERT_TRUE(file.ok()) << file.status();
    halves.reserve(file->tensors().size());
    for (const TensorEntry& entry : file->tensors()) {
      std::vector<uint16_t>& half = halves.emplace_back(entry.data.size() / sizeof(float));
      for (size_t i = 0; i < half.size(); ++i) {
        float value = 0.0F;
        std::memcpy(&value, entry.data.data() + i * sizeof(float), sizeof(float));
        const auto rounded = static_cast<_Float16>(value);
        std::memcpy(&half[i], &rounded, sizeof(rounded));
      }
      tensors.push_back({.name = entry.name,
                         .dtype = "F16",
                         .shape = entry.shape,
                         .write = [&half](const auto& append) {
                           return append(half.data(),
                                         static_cast<int64_t>(half.size() * sizeof(uint16_t)));
                         }});
    }
  }
  const auto written = WriteSafetensors(FileSystem::Posix(), path, tensors, {});
  ASSERT_TRUE(written.ok()) << written.status();
}

// Normal, subnormal, negative and the largest: what F16 can hold is read exactly.
TEST(HalfPrecisionTest, IsReadExactly) {
  TemporaryFolder folder;
  ModelHarness original(Variants().front().config, {});
  original.Randomize(1);
  const std::vector<float> special = {0.0F,    -0.0F,    1.0F,     -2.5F,    65504.0F,
                                      6.1e-5F, 0x1p-14F, 0x1p-24F, 0x3p-24F, -0x1.8p-20F};
  std::vector<float> embedding = original.Value("transformer.wte.weight");
  std::copy(special.begin(), special.end(), embedding.begin());
  original.SetValue("transformer.wte.weight", embedding);
  ASSERT_TRUE(
      WriteModelFolder(FileSystem::Posix(), folder.path(), original.context(), original.model(), {})
          .ok());
  RewriteAsHalf(folder.path());
  ModelHarness copy(original.model().config(), {});
  copy.LoadFolder(folder.path());
  const std::vector<float> read = copy.Value("transformer.wte.weight");
  for (size_t i = 0; i < embedding.size(); ++i) {
    const auto want = static_cast<float>(static_cast<_Float16>(embedding[i]));
    EXPECT_EQ(read[i], want) << i;
  }
}

}  // namespace
}  // namespace entrain
