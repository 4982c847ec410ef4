// Checkpoints that processes write together and read again.
#include <gtest/gtest.h>

#include <string>

#include "parallel/checkpoint.h"
#include "tests/support/multirank_world.h"
#include "tests/support/sample_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

TEST(CheckpointMpiTest, EveryRankWritesItsPartAndReadsTheWhole) {
  Communicator& world = MultirankWorld();
  const TemporaryFolder root;  // the first rank's is used
  std::string folder = JoinPath(root.path(), "checkpoints");
  world.BroadcastText(&folder, 0, "the folder of a test");
  for (const int64_t step : {10, 20, 30}) {
    SampleCheckpoint sample(step, /*width=*/200);
    const auto saved = CheckpointStore(FileSystem::Posix(), folder)
                           .Save(world, sample.ContentsOf(world.rank(), world.size()), {2, 0});
    ASSERT_TRUE(saved.ok()) << saved.status();
    EXPECT_EQ(SampleCheckpoint::Difference(FileSystem::Posix(), *saved, step, 200), "");
    world.Barrier("read by all");
  }
  EXPECT_EQ(CheckpointStore(FileSystem::Posix(), folder).List()->size(), 2U);
  world.Barrier("end of a test");  // before the first rank removes the folder
}

TEST(CheckpointMpiTest, AnErrorOfOneRankIsTheSameOnAll) {
  Communicator& world = MultirankWorld();
  const TemporaryFolder
      root;  // of each rank its own: the others' shards cannot be seen by the first
  SampleCheckpoint sample(10);
  const auto saved = CheckpointStore(FileSystem::Posix(), JoinPath(root.path(), "checkpoints"))
                         .Save(world, sample.ContentsOf(world.rank(), world.size()), {2, 0});
  EXPECT_EQ(saved.ok(), world.size() == 1) << saved.status();
  std::string said(saved.status().message());
  const std::string mine = said;
  world.BroadcastText(&said, 0, "an error of a test");
  EXPECT_EQ(mine, said);
}

}  // namespace
}  // namespace entrain
