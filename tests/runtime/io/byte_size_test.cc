#include "runtime/io/byte_size.h"

#include <gtest/gtest.h>

namespace entrain {
namespace {

TEST(FormatBytes, ChoosesAUnit) {
  EXPECT_EQ(FormatBytes(0), "0 bytes");
  EXPECT_EQ(FormatBytes(1), "1 byte");
  EXPECT_EQ(FormatBytes(1023), "1023 bytes");
  EXPECT_EQ(FormatBytes(1024), "1.0 KiB");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes((int64_t{1} << 20) - 1), "1.0 MiB") << "not 1024.0 KiB";
  EXPECT_EQ(FormatBytes(int64_t{1493172224}), "1.4 GiB");
  EXPECT_EQ(FormatBytes(int64_t{1} << 40), "1.0 TiB");
  EXPECT_EQ(FormatBytes(int64_t{1} << 52), "4096.0 TiB");
}

}  // namespace
}  // namespace entrain
