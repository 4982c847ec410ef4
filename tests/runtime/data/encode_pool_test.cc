#include "runtime/data/encode_pool.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/data/byte_tokenizer.h"

namespace entrain {
namespace {

std::vector<RawDocument> OneText(int64_t index, const std::string& text) {
  static const auto path = std::make_shared<const std::string>("a.txt");
  return {{.path = path, .line = 0, .index = index, .bytes = text}};
}

TEST(EncodePoolTest, BatchesComeBackInTheirOrder) {
  const ByteTokenizer tokenizer;
  EncodePool pool(tokenizer, 3, {});
  int64_t taken = 0;
  for (int64_t i = 0; i < 200; ++i) {
    // Later batches are smaller and are done sooner.
    pool.Submit(
        OneText(i, std::string(static_cast<size_t>((200 - i) * 50), 'x') + std::to_string(i)));
    if (pool.in_flight() < 10) continue;
    const EncodedBatch batch = pool.Take();
    ASSERT_EQ(batch.documents.size(), 1);
    EXPECT_EQ(batch.tokens.size(), 1 + (200 - taken) * 50 + std::to_string(taken).size());
    EXPECT_EQ(batch.tokens.back(), '0' + taken % 10);
    ++taken;
  }
  EXPECT_EQ(pool.in_flight(), 9);
}

TEST(EncodePoolTest, MayBeLeftWithWorkUndone) {
  const ByteTokenizer tokenizer;
  for (int round = 0; round < 30; ++round) {
    EncodePool pool(tokenizer, 2, {});
    for (int64_t i = 0; i < round; ++i) pool.Submit(OneText(i, std::string(10000, 'x')));
  }
}

TEST(EncodePoolTest, ABadDocumentEndsItsBatchWithItsPlace) {
  std::vector<RawDocument> batch = OneText(0, "ok");
  batch.push_back({.path = std::make_shared<const std::string>("b.jsonl"),
                   .line = 12,
                   .index = 1,
                   .bytes = "[]"});
  ByteTokenizer tokenizer;
  const EncodedBatch result = EncodeBatch(batch, {}, tokenizer);
  EXPECT_EQ(result.documents.size(), 1);
  EXPECT_EQ(result.status.message(), "b.jsonl:12: expected a JSON object, found a JSON array");
}

}  // namespace
}  // namespace entrain
