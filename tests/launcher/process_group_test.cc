// Who started us: the launchers' environments, as they are.
#include "launcher/process_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace entrain {
namespace {

using ::testing::HasSubstr;

EnvironmentLookup Environment(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    const auto at = variables.find(name);
    if (at == variables.end()) return std::nullopt;
    return at->second;
  };
}

TEST(FindLauncherTest, NobodyStartedUs) {
  const auto facts = FindLauncher(Environment({}));
  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(facts->name, "");
  EXPECT_EQ(facts->ranks, 1);
}

TEST(FindLauncherTest, MpirunSaysHowMany) {
  const auto facts = FindLauncher(Environment({{"OMPI_COMM_WORLD_SIZE", "4"}, {"PMIX_RANK", "0"}}));
  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(facts->name, "mpirun");
  EXPECT_EQ(facts->ranks, 4);
  EXPECT_EQ(facts->evidence, "OMPI_COMM_WORLD_SIZE=4");
}

// Under sbatch + mpirun every rank sees SLURM_PROCID=0: Slurm alone is never trusted.
TEST(FindLauncherTest, MpirunInAnAllocationIsMpirun) {
  const auto facts = FindLauncher(Environment({{"OMPI_COMM_WORLD_SIZE", "4"},
                                               {"SLURM_NTASKS", "4"},
                                               {"SLURM_PROCID", "0"},
                                               {"SLURM_STEP_ID", "0"}}));
  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(facts->name, "mpirun");
}

TEST(FindLauncherTest, SrunWithPmix) {
  const auto facts = FindLauncher(
      Environment({{"PMIX_RANK", "2"}, {"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "8"}}));
  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(facts->name, "srun --mpi=pmix");
  EXPECT_EQ(facts->ranks, 8);
}

TEST(FindLauncherTest, SrunWithoutPmixIsRefused) {
  const auto facts = FindLauncher(Environment({{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "8"}}));
  EXPECT_EQ(facts.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(facts.status().message()),
              HasSubstr("srun started 8 tasks without PMIx"));
  EXPECT_THAT(std::string(facts.status().message()), HasSubstr("srun --mpi=pmix"));
}

TEST(FindLauncherTest, ABatchScriptIsNoStep) {
  const auto facts = FindLauncher(Environment({{"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "7"}}));
  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(facts->name, "");
}

TEST(CheckSlurmTest, AWorldOfAnotherSizeIsRefused) {
  EXPECT_TRUE(CheckSlurm(Environment({}), 4).ok());
  EXPECT_TRUE(CheckSlurm(Environment({{"SLURM_NTASKS", "4"}}), 4).ok());
  const absl::Status alone =
      CheckSlurm(Environment({{"SLURM_NTASKS", "4"}, {"SLURM_STEP_ID", "0"}}), 1);
  EXPECT_EQ(alone.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(alone.message()),
              HasSubstr("SLURM_NTASKS=4, but this world has 1 rank:"));
}

// On another host than mpirun's own: one daemon there, in a step with a task for each such host.
TEST(CheckSlurmTest, TheStepOfMpirunsDaemonsSaysNothingOfRanks) {
  EXPECT_TRUE(CheckSlurm(Environment({{"OMPI_COMM_WORLD_SIZE", "16"},
                                      {"SLURM_STEP_ID", "0"},
                                      {"SLURM_NTASKS", "1"}}),
                         16)
                  .ok());
  EXPECT_FALSE(
      CheckSlurm(Environment({{"OMPI_COMM_WORLD_SIZE", "2"}, {"SLURM_NTASKS", "4"}}), 2).ok());
}

TEST(SpeaksForAllTest, IsTheFirstRankByTheLaunchersWord) {
  EXPECT_TRUE(SpeaksForAll(Environment({})));
  EXPECT_TRUE(SpeaksForAll(Environment({{"OMPI_COMM_WORLD_RANK", "0"}})));
  EXPECT_FALSE(SpeaksForAll(Environment({{"OMPI_COMM_WORLD_RANK", "3"}, {"SLURM_PROCID", "0"}})));
  EXPECT_FALSE(SpeaksForAll(Environment({{"PMIX_RANK", "1"}})));
  EXPECT_FALSE(SpeaksForAll(Environment({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "2"}})));
  // A shell in a batch script has a SLURM_PROCID too.
  EXPECT_TRUE(SpeaksForAll(Environment({{"SLURM_PROCID", "2"}})));
}

}  // namespace
}  // namespace entrain
