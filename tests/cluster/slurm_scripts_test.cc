// The Slurm templates and what they start, with programs in place of Slurm's and Open MPI's that write down how they were called.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/file_contents.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kScripts[] = ENTRAIN_SOURCE_DIR "/cluster/";
using Words = std::vector<std::string>;

class SlurmScriptsTest : public ::testing::Test {
 protected:
  SlurmScriptsTest() {
    std::filesystem::create_directories(bin());
    for (const char* name : {"srun", "mpirun", "scontrol"}) {
      Program(name, std::string("echo ") + name + " \"$@\"; env | grep '^NCCL_'; exit ${CODE:-0}");
    }
    // To a dry run.
    Program("entrain", "echo 'output       " + folder_.path() + "'");
  }

  std::string bin() const { return folder_.path() + "/bin"; }
  std::string done() const { return folder_.path() + "/done"; }
  void Program(const std::string& name, const std::string& body) const {
    WriteFile(bin() + "/" + name, "#!/bin/bash\n" + body + "\n");
    std::filesystem::permissions(bin() + "/" + name, std::filesystem::perms::owner_all);
  }
  // As Slurm runs a template: a copy of it, in the folder that sbatch was called in.
  ProcessResult Job(const std::string& script, const Words& environment) const {
    std::filesystem::remove(done());
    return Run({"/bin/bash", Copy(script), "run.toml", "--set", "a=b"}, environment);
  }
  std::string Copy(const std::string& script) const {
    const std::string copy = folder_.path() + "/slurm_script";
    std::filesystem::copy_file(kScripts + script, copy,
                               std::filesystem::copy_options::overwrite_existing);
    return copy;
  }
  ProcessResult Run(const Words& program, const Words& environment) const {
    Words command = {"/usr/bin/env", "-C", ENTRAIN_SOURCE_DIR, "-u", "ENTRAIN", "-u", "NCCL_DEBUG"};
    const std::string path = bin() + ":" + std::getenv("PATH");
    command.insert(command.end(), {"PATH=" + path, "SLURM_JOB_ID=7", "RUN_DIR=" + folder_.path(),
                                   "ENTRAIN_DONE=" + done()});
    command.insert(command.end(), environment.begin(), environment.end());
    command.insert(command.end(), program.begin(), program.end());
    return RunProcess(command);
  }

  TemporaryFolder folder_;
};

const Words kEightGpus = {"SLURM_GPUS_PER_NODE=h100:8", "SLURM_NTASKS_PER_NODE=8"};

Words With(Words environment, const std::string& more) {
  environment.push_back(more);
  return environment;
}

TEST_F(SlurmScriptsTest, AJobWithoutGpusRunsTheProgramOfTheCpu) {
  EXPECT_EQ(Job("slurm_srun.sbatch", {}).output,
            "srun --mpi=pmix -K1 build/entrain train --config run.toml --set a=b\n");
  EXPECT_EQ(Job("slurm_mpirun.sbatch", {}).output,
            "mpirun --bind-to none build/entrain train --config run.toml --set a=b\n");
}

TEST_F(SlurmScriptsTest, AJobOnGpusRunsTheirProgramByNcclsSettings) {
  EXPECT_EQ(Job("slurm_srun.sbatch", kEightGpus).output,
            "srun --mpi=pmix -K1 build/cuda/entrain train --config run.toml --set a=b\n"
            "NCCL_DEBUG=WARN\n");
  EXPECT_EQ(
      Job("slurm_mpirun.sbatch", kEightGpus).output,
      "mpirun --bind-to none -x NCCL_DEBUG build/cuda/entrain train --config run.toml --set a=b\n"
      "NCCL_DEBUG=WARN\n");
}

TEST_F(SlurmScriptsTest, WhatIsSetAlreadyComesFirstAndGoesAlong) {
  const Words environment = With(With(kEightGpus, "NCCL_DEBUG=INFO"), "NCCL_SOCKET_IFNAME=ib1");
  const std::string output = Job("slurm_mpirun.sbatch", environment).output;
  EXPECT_THAT(output, HasSubstr(" -x NCCL_DEBUG -x NCCL_SOCKET_IFNAME "));
  EXPECT_THAT(output, HasSubstr("NCCL_DEBUG=INFO\n"));
  EXPECT_THAT(output, HasSubstr("NCCL_SOCKET_IFNAME=ib1\n"));
}

TEST_F(SlurmScriptsTest, AnotherProgramCanBeNamed) {
  for (const char* script : {"slurm_srun.sbatch", "slurm_mpirun.sbatch"}) {
    EXPECT_THAT(Job(script, With(kEightGpus, "ENTRAIN=/opt/entrain")).output,
                HasSubstr(" /opt/entrain train"));
  }
}

TEST_F(SlurmScriptsTest, GpusWithoutARankAreRefused) {
  for (const char* script : {"slurm_srun.sbatch", "slurm_mpirun.sbatch"}) {
    const ProcessResult result = Job(script, {"SLURM_GPUS_PER_NODE=8", "SLURM_NTASKS_PER_NODE=1"});
    EXPECT_EQ(result.code, 78);
    EXPECT_EQ(result.output, "");
    EXPECT_EQ(result.error, "8 GPUs on a node and 1 ranks: give sbatch --ntasks-per-node=8\n");
  }
}

// Slurm reads lines that begin with #SBATCH.
TEST_F(SlurmScriptsTest, GpusAreAskedForWhereALineIsMadeToCount) {
  for (const char* script : {"slurm_srun.sbatch", "slurm_mpirun.sbatch"}) {
    const std::string text = ReadFile(kScripts + std::string(script));
    EXPECT_THAT(text, HasSubstr("\n##SBATCH --ntasks-per-node=8\n##SBATCH --gpus-per-node=8\n"));
    EXPECT_THAT(text, Not(HasSubstr("#SBATCH --gpus-per-task")));
  }
}

TEST_F(SlurmScriptsTest, AChainEndsWhereTheRunDoes) {
  EXPECT_EQ(Job("slurm_srun.sbatch", {"CODE=75"}).code, 75);
  EXPECT_FALSE(std::filesystem::exists(done()));
  EXPECT_EQ(Job("slurm_srun.sbatch", {"CODE=0"}).code, 0);
  EXPECT_TRUE(std::filesystem::exists(done()));
  const ProcessResult after = Run({"/bin/bash", Copy("slurm_srun.sbatch"), "run.toml"}, {});
  EXPECT_EQ(after.code, 0);
  EXPECT_EQ(after.output, "finished before (" + done() + ")\n");
}

TEST_F(SlurmScriptsTest, AJobIsRequeuedWhenItHasSaved) {
  Program("mpirun", R"(echo '{"last_commit": 8}' > "$RUN_DIR/verdict.json"; exit 75)");
  const ProcessResult first = Job("slurm_mpirun.sbatch", {});
  EXPECT_EQ(first.code, 75);
  EXPECT_EQ(first.output, "scontrol requeue 7\n");
  const ProcessResult second = Job("slurm_mpirun.sbatch", {});
  EXPECT_EQ(second.code, 1);
  EXPECT_THAT(second.error, HasSubstr("not requeued"));
}

TEST_F(SlurmScriptsTest, TheScriptForHostsHandsNcclsSettingsOn) {
  const ProcessResult result = Run({kScripts + std::string("mpirun.sh"), "2", "run.toml"},
                                   {"ENTRAIN=" + bin() + "/entrain"});
  EXPECT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.output, AllOf(HasSubstr(" -x NCCL_DEBUG "), HasSubstr("NCCL_DEBUG=WARN\n")));
}

}  // namespace
}  // namespace entrain
