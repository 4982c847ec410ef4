#include "runtime/data/batch_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/temporary_folder.h"
#include "tests/support/token_file_bytes.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

class BatchLoaderTest : public ::testing::Test {
 protected:
  TokenDataset Dataset(const std::vector<uint16_t>& tokens, int64_t sequence_length) {
    const std::string path = folder_.path() + "/a.bin";
    WriteFile(path, LlmcBytes(tokens));
    auto dataset =
        TokenDataset::Open(FileSystem::Posix(), path, TokenFormat::kAuto, sequence_length, 10000);
    CHECK(dataset.ok()) << dataset.status();
    return *std::move(dataset);
  }

  TemporaryFolder folder_;
};

TEST_F(BatchLoaderTest, ServesTheMicroBatchesOfTheSteps) {
  const TokenDataset dataset = Dataset(CountingTokens<uint16_t>(20 * 3 + 1), 3);
  const BatchSampler sampler(5, dataset.num_sequences(), 6, true);
  BatchLoader loader(dataset, sampler, 7, {.global_batch = 6, .micro_batch = 2});
  for (int64_t step = 7; step < 20; ++step) {
    for (int64_t micro = 0; micro < 3; ++micro) {
      const auto batch = loader.Next();
      ASSERT_TRUE(batch.ok()) << batch.status();
      EXPECT_EQ(batch->batch_size, 2);
      EXPECT_EQ(batch->sequence_length, 3);
      ASSERT_EQ(batch->inputs.size(), 6);
      ASSERT_EQ(batch->targets.size(), 6);
      for (int64_t i = 0; i < 6; ++i) {
        const int64_t sequence = sampler.SequenceIndex(step, 2 * micro + i / 3);
        EXPECT_EQ(batch->inputs[static_cast<size_t>(i)], 3 * sequence + i % 3);
        EXPECT_EQ(batch->targets[static_cast<size_t>(i)], 3 * sequence + i % 3 + 1);
      }
    }
  }
}

TEST_F(BatchLoaderTest, StopsAtAnyTime) {
  const TokenDataset dataset = Dataset(CountingTokens<uint16_t>(1000), 8);
  const BatchSampler sampler(5, dataset.num_sequences(), 4, true);
  for (int taken = 0; taken < 40; ++taken) {
    BatchLoader loader(dataset, sampler, 0, {.global_batch = 4, .micro_batch = 4});
    for (int i = 0; i < taken % 10; ++i) ASSERT_TRUE(loader.Next().ok());
    if (taken % 3 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST_F(BatchLoaderTest, AnErrorComesAtTheBatchThatItHitAndStays) {
  std::vector<uint16_t> tokens = CountingTokens<uint16_t>(10 * 2 + 1);
  tokens[13] = 20000;  // an input of sequence 6, the second of step 3
  const TokenDataset dataset = Dataset(tokens, 2);
  const BatchSampler sampler(5, dataset.num_sequences(), 2, false);
  BatchLoader loader(dataset, sampler, 0, {.global_batch = 2, .micro_batch = 1});
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(loader.Next().ok()) << i;
  for (int i = 0; i < 3; ++i) {
    const auto batch = loader.Next();
    EXPECT_EQ(batch.status().code(), absl::StatusCode::kOutOfRange);
    EXPECT_THAT(std::string(batch.status().message()), HasSubstr("token 20000 at position 13"));
  }
}

TEST_F(BatchLoaderTest, RefusesBatchesThatDoNotDivide) {
  const TokenDataset dataset = Dataset(CountingTokens<uint16_t>(100), 2);
  const BatchSampler sampler(5, dataset.num_sequences(), 6, false);
  EXPECT_DEATH(BatchLoader(dataset, sampler, 0, {.global_batch = 6, .micro_batch = 4}), "6 over 4");
}

}  // namespace
}  // namespace entrain
