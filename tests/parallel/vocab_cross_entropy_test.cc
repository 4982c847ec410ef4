// Cross-entropy and embedding over a vocabulary that is cut over ranks: the same as over the whole one.
#include "parallel/vocab_cross_entropy.h"

#include <gtest/gtest.h>

#include "parallel/vocab_embedding.h"
#include "tests/support/local_ranks.h"
#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

constexpr int64_t kRows = 9;
constexpr int64_t kWidth = 12;

TestTensor Tokens(int64_t vocab) {
  TestTensor tokens(DType::kI32, {3, 3});
  for (int64_t i = 0; i < kRows; ++i) {
    tokens.Set(i, static_cast<double>((i * 9973 + vocab - 1) % vocab));
  }
  return tokens;
}

// This rank's columns of a row of logits, padding filled with what must not count.
TestTensor LogitsOf(const VocabShard& shard, const TestTensor& whole, int64_t vocab) {
  TestTensor logits = TestTensor::F32({kRows, shard.padded});
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t i = 0; i < shard.padded; ++i) {
      logits.Set(row * shard.padded + i, i < shard.tokens.count
                                             ? whole.At(row * vocab + shard.tokens.first_token + i)
                                             : 1e6);
    }
  }
  return logits;
}

class VocabTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(VocabTest, ShardsCoverTheVocabularyOnce) {
  for (const int ranks : {1, 2, 3, 4}) {
    int64_t next = 0;
    for (int r = 0; r < ranks; ++r) {
      const VocabShard shard = VocabShard::Of(GetParam(), {r, ranks});
      EXPECT_EQ(shard.padded % 128, 0);
      EXPECT_EQ(shard.tokens.first_token, next);
      next += shard.tokens.count;
    }
    EXPECT_EQ(next, GetParam());
  }
}

TEST_P(VocabTest, LossAndGradientAreThoseOfTheWhole) {
  const int64_t vocab = GetParam();
  const TestTensor whole = TestTensor::Normal(DType::kF32, {kRows, vocab}, 4, 8.0);
  TestTensor targets = Tokens(vocab);
  const auto flat_targets = targets.view().Reshape({kRows});
  TestTensor loss_of_whole = TestTensor::F32({kRows});
  TestTensor gradient_of_whole = whole;
  const auto context = CpuContext(1);
  Arena memory(*context, 1 << 16);
  VocabCrossEntropy({}, {0, vocab})
      .Run(*context,
           {.logits = gradient_of_whole.view(),
            .targets = flat_targets,
            .loss = loss_of_whole.view(),
            .dlogits = gradient_of_whole.view(),
            .scale = 0.5F},
           VocabCrossEntropy::AllocateSaved(memory, kRows));
  for (const int ranks : {1, 2, 4}) {
    OnLocalRanks(ranks, [&](std::unique_ptr<Communicator> world) {
      const TensorParallel tp(*world, false);
      const VocabShard shard = VocabShard::Of(vocab, tp.place());
      TestTensor logits = LogitsOf(shard, whole, vocab);
      TestTensor loss = TestTensor::F32({kRows});
      const auto mine = CpuContext(1);
      Arena arena(*mine, 1 << 16);
      VocabCrossEntropy(tp, shard.tokens)
          .Run(*mine,
               {.logits = logits.view(),
                .targets = flat_targets,
                .loss = loss.view(),
                .dlogits = logits.view(),
                .scale = 0.5F},
               VocabCrossEntropy::AllocateSaved(arena, kRows));
      for (int64_t row = 0; row < kRows; ++row) {
        EXPECT_NEAR(loss.At(row), loss_of_whole.At(row), 1e-6 * (1.0 + loss_of_whole.At(row)));
        for (int64_t i = 0; i < shard.padded; ++i) {
          const double want = i < shard.tokens.count
                                  ? gradient_of_whole.At(row * vocab + shard.tokens.first_token + i)
                                  : 0.0;
          // Two roundings of numbers up to 0.5.
          ASSERT_NEAR(logits.At(row * shard.padded + i), want, 1.5e-7) << row << ", " << i;
        }
      }
    });
  }
}

// Values of a whole table [vocab, kWidth]; the shard's rows are filled, its padding stays zero.
void FillTable(ParamSet& params, ParamId id) {
  auto* data = params.value(id).data<float>();
  params.spec(id).shard.ForEachRun([&](int64_t local, int64_t whole, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      data[local + i] = NormalAt(7, 11, static_cast<uint64_t>(whole + i));
    }
  });
}

struct EmbeddingResults {
  Doubles stream;             // of this rank's rows
  std::vector<float> dtable;  // of the whole table; zero where it is another rank's
  Doubles dpositions;
};

EmbeddingResults Embed(const TensorParallel& tp, int64_t vocab) {
  const auto context = CpuContext(1);
  ParamSet params;
  const ParamId table = params.Add(VocabMatrixSpec("table", vocab, kWidth, 1.0F, tp.place()));
  const ParamId positions = params.Add({.name = "positions", .shape = {3, kWidth}, .matrix = true});
  params.Allocate(DeviceKind::kCpu, DType::kF32, true);
  FillTable(params, table);
  FillTable(params, positions);
  const VocabEmbedding embedding(tp, VocabShard::Of(vocab, tp.place()), table, positions);
  TestTensor tokens = Tokens(vocab);
  TestTensor stream = TestTensor::F32({tp.StreamRows(kRows), kWidth});
  TestTensor sums = TestTensor::F32({kRows, kWidth});
  embedding.Forward(*context, params, tokens.view(), stream.view(), sums.view());
  EmbeddingResults results{stream.values(), std::vector<float>(vocab * kWidth), {}};
  embedding.Backward(*context, params, tokens.view(), stream.view(), sums.view(), false);
  params.spec(table).shard.ForEachRun([&](int64_t local, int64_t whole, int64_t count) {
    std::copy_n(params.gradient(table).data<float>() + local, count,
                results.dtable.begin() + whole);
  });
  const auto* dpositions = params.gradient(positions).data<float>();
  results.dpositions.assign(dpositions, dpositions + 3 * kWidth);
  return results;
}

TEST_P(VocabTest, EmbeddingIsThatOfTheWholeTableToTheBit) {
  const EmbeddingResults whole = Embed({}, GetParam());
  for (const int ranks : {1, 3}) {
    for (const bool sequence_parallel : {false, true}) {
      OnLocalRanks(ranks, [&](std::unique_ptr<Communicator> world) {
        const TensorParallel tp(*world, sequence_parallel);
        const EmbeddingResults part = Embed(tp, GetParam());
        const int64_t first = tp.sequence_parallel() ? tp.rank() * tp.StreamRows(kRows) : 0;
        for (size_t i = 0; i < part.stream.size(); ++i) {
          EXPECT_EQ(part.stream[i], whole.stream[static_cast<size_t>(first * kWidth) + i]);
        }
        const VocabShard shard = VocabShard::Of(GetParam(), tp.place());
        for (int64_t i = shard.tokens.first_token * kWidth;
             i < (shard.tokens.first_token + shard.tokens.count) * kWidth; ++i) {
          EXPECT_EQ(part.dtable[static_cast<size_t>(i)], whole.dtable[static_cast<size_t>(i)]);
        }
        EXPECT_EQ(part.dpositions, whole.dpositions);
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, VocabTest, ::testing::Values(1, 17, 127, 300, 1025));

}  // namespace
}  // namespace entrain
