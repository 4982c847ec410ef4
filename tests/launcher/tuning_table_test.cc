#include "launcher/tuning_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace entrain {
namespace {

using ::testing::HasSubstr;

constexpr const char* kProducts =
    "entrain matmul table 1\nNVIDIA H200, 132 multiprocessors, cuBLASLt 130000\n1 2 3\n4 5 6\n";

TuningTable WithAttention() {
  return {.attention = MeasuredAttention{.work = {.batch = 8,
                                                  .positions = 1024,
                                                  .heads = 12,
                                                  .width = 64,
                                                  .dtype = DType::kBf16,
                                                  .entropy_gradient = EntropyGradientKind::kRow},
                                         .cudnn = true,
                                         .times = {.entrain_ms = 1.25, .cudnn_ms = 1.0},
                                         .name = "cuDNN 9.19.0"},
          .products = kProducts};
}

TEST(TuningTableTest, ComesBackFromItsText) {
  const TuningTable table = WithAttention();
  const auto back = ParseTuningTable(ToText(table));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->products, kProducts);
  EXPECT_EQ(back->Place(), "NVIDIA H200, 132 multiprocessors, cuBLASLt 130000");
  EXPECT_EQ(back->NumProducts(), 2);
  EXPECT_EQ(back->first_product_line, 3);
  ASSERT_TRUE(back->attention.has_value());
  EXPECT_EQ(back->attention->work, table.attention->work);
  EXPECT_TRUE(back->attention->cudnn);
  EXPECT_EQ(back->attention->times.entrain_ms, 1.25);
  EXPECT_EQ(back->attention->name, "cuDNN 9.19.0");
  EXPECT_EQ(ToText(*back), ToText(table));
}

TEST(TuningTableTest, AttentionMayBeLeftOut) {
  const auto back = ParseTuningTable(ToText({.products = kProducts}));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_FALSE(back->attention.has_value());
  EXPECT_EQ(back->first_product_line, 2);
  EXPECT_EQ(back->products, kProducts);
}

TEST(TuningTableTest, RefusesOtherFormatsAndDamage) {
  EXPECT_EQ(ParseTuningTable("").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ParseTuningTable("entrain tuning 2\n").status().code(),
            absl::StatusCode::kFailedPrecondition);
  const std::string text = ToText(WithAttention());
  for (const std::string damaged : {"bf16", "row", "cudnn", "1.2500", "1024"}) {
    std::string other = text;
    other.replace(other.find(damaged), damaged.size(), "?");
    const absl::Status status = ParseTuningTable(other).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << damaged;
    EXPECT_THAT(std::string(status.message()), HasSubstr("line 2"));
  }
  EXPECT_FALSE(ParseTuningTable(text.substr(0, text.find("entrain matmul") - 1)).ok());
}

}  // namespace
}  // namespace entrain
