#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/attention_checks.h"
#include "tests/support/attention_on_gpu.h"

namespace entrain {
namespace {

class AttentionGpuCases : public ::testing::TestWithParam<AttentionCase> {};

// fp32: as on the CPU. bf16: probabilities and score gradients are rounded to 8 bits for the products, out and gradients are
// stored with 8: relative errors of 2^-9 each, at random; lse and entropies see none of it.
TEST_P(AttentionGpuCases, EqualsReference) {
  ENTRAIN_REQUIRE_GPU();
  const AttentionOperands operands(GetParam());
  RunOnGpu(operands);
  ExpectReference(operands, 6e-6);
}

std::vector<AttentionCase> Cases() {
  std::vector<AttentionCase> cases;
  const TemperatureKind kinds[] = {TemperatureKind::kNone, TemperatureKind::kPerHead,
                                   TemperatureKind::kPerQuery};
  int turn = 0;
  auto add = [&](int64_t length, int64_t width, DType dtype, bool entropy) {
    AttentionCase c{.batch = 1 + turn % 2, .length = length, .heads = 1 + turn % 3, .width = width};
    c.temperature = kinds[turn++ % 3];
    c.entropy_gradient = entropy;
    c.gradient_per_head = turn % 4 == 0;
    c.dtype = dtype;
    cases.push_back(c);
  };
  for (const bool entropy : {false, true}) {
    for (const int64_t width : {1, 4, 20, 64, 80}) {
      for (const int64_t length : {1, 2, 3, 17, 64, 100}) {
        add(length, width, DType::kF32, entropy);
      }
    }
    for (const int64_t width : {32, 64, 80, 96, 128}) {  // on tensor cores
      for (const int64_t length : {1, 31, 64, 97, 150}) {
        add(length, width, DType::kBf16, entropy);
      }
    }
  }
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    add(40, 256, dtype, true);
    add(65, 24, dtype, true);
  }
  for (const TemperatureKind kind : kinds) {
    for (const bool entropy : {false, true}) {
      for (const bool per_head : {false, true}) {
        if (per_head && !entropy) continue;
        AttentionCase c{2, 130, 2, 64, kind, entropy, DType::kBf16};
        c.gradient_per_head = per_head;
        cases.push_back(c);
      }
    }
  }
  for (const int64_t width : {32, 64, 80}) {  // beyond what one block holds
    for (const bool entropy : {false, true}) add(257, width, DType::kBf16, entropy);
  }
  for (const TemperatureKind kind : kinds) {  // tiles of 64 and items of 128 rows, whole and cut
    for (const int64_t length : {320, 384, 450}) {
      AttentionCase c{1, length, 2, 64, kind, length != 384, DType::kBf16};
      c.gradient_per_head = length == 450;
      cases.push_back(c);
    }
  }
  cases.push_back({3, 260, 4, 64, TemperatureKind::kPerHead, true, DType::kBf16});
  AttentionCase unrefined{1, 270, 1, 64, TemperatureKind::kPerHead, true, DType::kBf16};
  unrefined.lse_low = false;
  cases.push_back(unrefined);
  cases.push_back({1, 300, 1, 64, TemperatureKind::kPerQuery, true, DType::kF32});
  cases.push_back({1, 515, 1, 64, TemperatureKind::kPerQuery, true, DType::kBf16});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, AttentionGpuCases, ::testing::ValuesIn(Cases()),
                         [](const auto& info) {
                           return absl::StrCat(info.index, "_", info.param.Name());
                         });

class AttentionGpuAccuracy : public ::testing::TestWithParam<Sharpness> {};

TEST_P(AttentionGpuAccuracy, RowEntropy) {
  ENTRAIN_REQUIRE_GPU();
  ExpectExactEntropies(GetParam(), 1024);
}

INSTANTIATE_TEST_SUITE_P(All, AttentionGpuAccuracy, ::testing::ValuesIn(kSharpnesses));

std::pair<double, double> SharpGradientError(int64_t width, DType dtype) {
  AttentionCase c = SharpHeads();
  c.width = width;
  c.dtype = dtype;
  const AttentionOperands operands(c);
  RunOnGpu(operands);
  return GradientErrors(operands);
}

TEST(AttentionGpu, SharpGradientsKeepTheirDigits) {
  ENTRAIN_REQUIRE_GPU();
  const auto [dq, dt] = SharpGradientError(16, DType::kF32);
  EXPECT_LE(dq, 2e-6);
  EXPECT_LE(dt, 3e-6);
  const auto [rough_dq, rough_dt] = SharpGradientError(64, DType::kBf16);
  EXPECT_LE(rough_dq, 1e-2);
  EXPECT_LE(rough_dt, 1e-2);
}

}  // namespace
}  // namespace entrain
