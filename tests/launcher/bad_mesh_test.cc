// Meshes that cannot be, through the real program. Real worlds of several ranks: train_ranks_test.
#include <gtest/gtest.h>

#include "tests/support/bad_input.h"

namespace entrain {
namespace {

using BadMeshTest = BadInputTest;

TEST_F(BadMeshTest, HeadsThatDoNotDivideOverTp) {
  Expect(Train({"--dry-run", "--ranks", "3", "--set", "parallel.tp=3"}), kBadConfig,
         {"--set parallel.tp=3: [parallel] tp = 3: must divide heads = 2"});
}

TEST_F(BadMeshTest, RowsThatDoNotDivideOverTp) {
  Expect(Train({"--dry-run", "--ranks", "2", "--set", "parallel.tp=2", "--set",
                "train.micro_batch=1"}),
         kBadConfig,
         {"parallel.tp = 2: must divide the rows of a micro-step, 13 = 1 sequences x "
          "model.context 13"});
}

TEST_F(BadMeshTest, RanksThatAreNoMultipleOfTp) {
  Expect(Train({"--dry-run", "--ranks", "3", "--set", "parallel.tp=2"}), kBadConfig,
         {"world 3 from --ranks 3 is not a multiple of tp 2 from parallel.tp = 2"});
}

TEST_F(BadMeshTest, RanksWithoutADryRun) {
  Expect(Train({"--ranks", "2"}), kBadConfig, {"--ranks 2 plans a mesh and needs --dry-run"});
}

TEST_F(BadMeshTest, SequenceParallelWithoutTp) {
  Expect(Set("parallel.sequence_parallel=true"), kBadConfig,
         {"[parallel] sequence_parallel = true", "needs tp > 1"});
}

}  // namespace
}  // namespace entrain
