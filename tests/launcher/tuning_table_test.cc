#include "launcher/tuning_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "runtime/io/checksum.h"

namespace entrain {
namespace {

using ::testing::AllOf;
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

std::string WithoutChecksum(const std::string& text) {
  return text.substr(0, text.rfind("checksum "));
}
std::string WithChecksum(const std::string& lines) {
  return lines + "checksum " + ChecksumOf(lines.data(), static_cast<int64_t>(lines.size())) + "\n";
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
  EXPECT_EQ(ParseTuningTable("entrain tuning 1\n").status().code(),
            absl::StatusCode::kFailedPrecondition);
  const std::string text = WithoutChecksum(ToText(WithAttention()));
  for (const std::string damaged : {"bf16", "row", "cudnn", "1.2500", "1024"}) {
    std::string other = text;
    other.replace(other.find(damaged), damaged.size(), "?");
    const absl::Status status = ParseTuningTable(WithChecksum(other)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << damaged;
    EXPECT_THAT(std::string(status.message()), HasSubstr("line 2"));
  }
  EXPECT_FALSE(ParseTuningTable(WithChecksum(text.substr(0, text.find("entrain matmul")))).ok());
}

std::string MessageOf(const std::string& text) {
  return std::string(ParseTuningTable(text).status().message());
}

TEST(TuningTableTest, NoticesALineThatIsGone) {
  const std::string text = ToText(WithAttention());
  for (size_t end = text.find('\n'); end + 1 < text.size(); end = text.find('\n', end + 1)) {
    EXPECT_THAT(MessageOf(text.substr(0, end + 1)), HasSubstr("cut off")) << end;
  }
  EXPECT_THAT(MessageOf(text.substr(0, text.size() - 1)), HasSubstr("cut off"));
  std::string shorter = text;
  shorter.erase(text.find("1 2 3\n"), 6);
  EXPECT_THAT(MessageOf(shorter), HasSubstr("changed or damaged"));
}

TEST(TuningTableTest, NoticesAChangedDigit) {
  std::string text = ToText(WithAttention());
  text[text.find("4 5 6")] = '7';
  EXPECT_EQ(ParseTuningTable(text).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(text), AllOf(HasSubstr("changed or damaged"), HasSubstr("checksum")));
}

TEST(TuningTableTest, RefusesATableOfNoGpu) {
  EXPECT_THAT(MessageOf(ToText({.products = "entrain matmul table 2\n"})),
              HasSubstr("line 3 names no GPU"));
}

}  // namespace
}  // namespace entrain
