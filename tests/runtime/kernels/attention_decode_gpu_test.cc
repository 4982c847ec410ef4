#include <gtest/gtest.h>

#include "runtime/kernels/attention.h"
#include "tests/support/attention_checks.h"
#include "tests/support/attention_on_gpu.h"

namespace entrain {
namespace {

class AttentionGpuDecode : public ::testing::TestWithParam<DecodeCase> {};

TEST_P(AttentionGpuDecode, EqualsLastRowOfReference) {
  ENTRAIN_REQUIRE_GPU();
  const DecodeOperands operands(GetParam());
  const GpuCopy q(operands.q), keys(operands.keys), values(operands.values), out(operands.out),
      entropy(operands.entropy), temperature(operands.sequence.temperature);
  const bool tempered = GetParam().temperature != TemperatureKind::kNone;
  AttentionDecode(Gpu(), {.q = q.view(),
                          .keys = keys.view(),
                          .values = values.view(),
                          .temperature = tempered ? temperature.view() : TensorView(),
                          .out = out.view(),
                          .entropy = entropy.view(),
                          .length = GetParam().length});
  out.ToHost();
  entropy.ToHost();
  operands.ExpectLastRow();
}

INSTANTIATE_TEST_SUITE_P(
    All, AttentionGpuDecode,
    ::testing::Values(DecodeCase{1, 1, TemperatureKind::kNone, DType::kF32},
                      DecodeCase{1, 64, TemperatureKind::kPerQuery, DType::kBf16},
                      DecodeCase{2, 20, TemperatureKind::kPerHead, DType::kF32},
                      DecodeCase{17, 256, TemperatureKind::kPerQuery, DType::kF32},
                      DecodeCase{17, 64, TemperatureKind::kNone, DType::kBf16},
                      DecodeCase{100, 80, TemperatureKind::kPerQuery, DType::kF32},
                      DecodeCase{500, 64, TemperatureKind::kPerHead, DType::kBf16},
                      DecodeCase{500, 64, TemperatureKind::kNone, DType::kF32}));

}  // namespace
}  // namespace entrain
