#include "runtime/io/checksum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace entrain {
namespace {

std::string Sample(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 2654435761U >> 11);
  return text;
}

TEST(Checksum, IsXxh3OfNothing) {
  // Published value of XXH3-128 with seed 0 of no bytes.
  EXPECT_EQ(ChecksumOf("", 0), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(Checksum().HexDigits(), "99aa06d3014798d86001c324468d497f");
}

TEST(Checksum, DoesNotDependOnTheParts) {
  const std::string text = Sample(100'003);
  const std::string whole = ChecksumOf(text.data(), static_cast<int64_t>(text.size()));
  for (const size_t part : {1, 7, 64, 4096, 99'999}) {
    Checksum checksum;
    for (size_t at = 0; at < text.size(); at += part) {
      checksum.Add(text.data() + at, static_cast<int64_t>(std::min(part, text.size() - at)));
    }
    EXPECT_EQ(checksum.HexDigits(), whole) << part;
  }
}

TEST(Checksum, SeesEveryBit) {
  std::string text = Sample(300);
  const std::string before = ChecksumOf(text.data(), 300);
  for (size_t bit = 0; bit < 300 * 8; ++bit) {
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    EXPECT_NE(ChecksumOf(text.data(), 300), before) << bit;
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
  }
}

}  // namespace
}  // namespace entrain
