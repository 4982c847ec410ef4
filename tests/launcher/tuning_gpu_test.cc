// By what a run's GPU ops are chosen, and what is refused; cuDNN is the test's own. What whole runs do with it: tuned_runs_on_gpu.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "launcher/memory_plan.h"
#include "launcher/tuning.h"
#include "parallel/comm/device_collectives.h"
#include "runtime/kernels/matmul_tuning.h"
#include "tests/support/fake_cudnn.h"
#include "tests/support/local_ranks.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RunTuningTest : public ::testing::Test {
 protected:
  RunTuningTest() {
    config_.run.dir = folder_.path();
    config_.data.train = "tokens.bin";
    config_.model.layers = 2;
    config_.model.width = 64;
    config_.model.heads = 2;
    config_.model.context = 32;
    config_.model.vocab = 64;
    config_.train.global_batch = 2;
    config_.train.precision = Precision::kBf16;
    config_.train.device = DeviceChoice::kCuda;
  }

  // What the run chooses on one rank, whose cuDNN `asked_` speaks for.
  struct Chosen {
    absl::Status status;
    std::string attention, text;
    std::vector<std::string> notices;
    int64_t bytes = 0;
  };
  Chosen Choose(const RunTuning::Start& start = {}) {
    Chosen chosen;
    RunLocalRanks(1, [&](Communicator& world) {
      const auto context = FakeCudnn::ContextWith(asked_);
      RunTuning tuning(FileSystem::Posix(), config_, *context, world);
      chosen.status = tuning.Choose({}, start);
      chosen.attention = tuning.attention_text();
      chosen.text = tuning.text();
      chosen.notices = tuning.notices();
      chosen.bytes = tuning.attention_bytes();
      if (chosen.status.ok() && !start.dry_run) {
        EXPECT_TRUE(tuning.Write().ok());
      }
    });
    return chosen;
  }
  // Of a run whose checkpoint has this configuration.
  RunTuning::Start Resumed() const {
    EXPECT_TRUE(FileSystem::Posix().MakeDirectories(folder_.path() + "/checkpoint").ok());
    Write("checkpoint/config.toml", ToToml(config_));
    return {.checkpoint = folder_.path() + "/checkpoint"};
  }
  // A table that was measured here; `name`: of cuDNN.
  std::string Table(bool cudnn, const std::string& name) const {
    const auto context = Context::CreateCuda(Gpu().cuda().ordinal, 1).value();
    return ToText(
        {.attention = MeasuredAttention{.work = AttentionWorkOf(config_, {}),
                                        .cudnn = cudnn,
                                        .times = {.entrain_ms = 2.0, .cudnn_ms = cudnn ? 1.0 : 4.0},
                                        .name = name},
         .products = MatmulTable(*context)});
  }
  void Write(const std::string& name, const std::string& text) const {
    ASSERT_TRUE(WriteTextAtomically(FileSystem::Posix(), folder_.path() + "/" + name, text).ok());
  }
  void TakeTable(const std::string& text) {
    Write("other.txt", text);
    config_.train.tuning = folder_.path() + "/other.txt";
  }
  std::string FolderTable() const {
    return FileSystem::Posix().ReadText(folder_.path() + "/tuning.txt").value_or("none");
  }

  TemporaryFolder folder_;
  TrainConfig config_;
  FakeCudnn::Asked asked_;
};

TEST_F(RunTuningTest, WithoutMeasurementsAttentionIsOurs) {
  ENTRAIN_REQUIRE_GPU();
  Write("tuning.txt", "of an earlier start");
  const Chosen chosen = Choose();
  ASSERT_TRUE(chosen.status.ok()) << chosen.status;
  EXPECT_EQ(chosen.attention, "entrain (not measured)");
  EXPECT_EQ(chosen.bytes, 0);
  EXPECT_THAT(asked_.prepared, IsEmpty());
  EXPECT_EQ(FolderTable(), "none") << "it is not this run's";
}

TEST_F(RunTuningTest, CudnnIsUsedWhereItIsAskedFor) {
  ENTRAIN_REQUIRE_GPU();
  config_.train.attention = AttentionChoice::kCudnn;
  config_.model.entropy_regularizer.emplace();
  const Chosen chosen = Choose();
  ASSERT_TRUE(chosen.status.ok()) << chosen.status;
  EXPECT_THAT(chosen.attention,
              AllOf(HasSubstr("cuDNN 9.99.0"), HasSubstr("asked for"), HasSubstr("workspace")));
  EXPECT_EQ(chosen.bytes, 4096) << "of the pass with an entropies' gradient";
  EXPECT_EQ(asked_.prepared.size(), 2U);
}

TEST_F(RunTuningTest, ARefusalOfCudnnsIsTheRuns) {
  ENTRAIN_REQUIRE_GPU();
  config_.train.attention = AttentionChoice::kCudnn;
  asked_.refusal = absl::UnimplementedError("Only 2 sq broadcasted vectors");
  const absl::Status status = Choose().status;
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("train.attention = cudnn"), HasSubstr("Only 2 sq"),
                    HasSubstr("\"entrain\" or \"auto\"")));
}

TEST_F(RunTuningTest, OneRankWithoutCudnnIsEnoughForARefusal) {
  ENTRAIN_REQUIRE_GPU();
  config_.train.attention = AttentionChoice::kCudnn;
  FakeCudnn::Asked refused;
  refused.refusal = absl::UnimplementedError("not here");
  std::vector<absl::Status> statuses(2);
  RunLocalRanks(2, [&](Communicator& world) {
    const bool second = world.rank() == 1;
    const auto context = FakeCudnn::ContextWith(second ? refused : asked_);
    RunTuning tuning(FileSystem::Posix(), config_, *context, world);
    statuses[second ? 1 : 0] = tuning.Choose({}, {});
  });
  EXPECT_EQ(statuses[0], statuses[1]);
  EXPECT_THAT(std::string(statuses[0].message()),
              AllOf(HasSubstr("not here"), HasSubstr("rank 1")));
}

TEST_F(RunTuningTest, ATablesChoiceOfAttentionIsTaken) {
  ENTRAIN_REQUIRE_GPU();
  TakeTable(Table(true, asked_.name));
  const Chosen chosen = Choose();
  ASSERT_TRUE(chosen.status.ok()) << chosen.status;
  EXPECT_THAT(chosen.attention,
              AllOf(HasSubstr("cuDNN 9.99.0 for the backward at T 32"), HasSubstr("2.00x")));
  EXPECT_THAT(chosen.text, HasSubstr("other.txt"));
  EXPECT_EQ(FolderTable(), Table(true, asked_.name)) << "a resumed run takes it from there";

  TakeTable(Table(false, asked_.name));
  EXPECT_THAT(Choose().attention, AllOf(HasSubstr("entrain (measured 2.00x")));
  TakeTable(Table(false, "this program was built without cuDNN"));
  config_.train.attention = AttentionChoice::kEntrain;
  EXPECT_EQ(Choose().attention, "entrain (asked for)");
}

TEST_F(RunTuningTest, AttentionOfAnotherShapeIsNotInTheTable) {
  ENTRAIN_REQUIRE_GPU();
  TakeTable(Table(true, asked_.name));
  config_.train.global_batch = 4;
  EXPECT_EQ(Choose().attention, "entrain (not measured)");
}

TEST_F(RunTuningTest, AnotherCudnnIsRefusedAtAStartAndToldOnResuming) {
  ENTRAIN_REQUIRE_GPU();
  TakeTable(Table(true, "cuDNN 9.11.0"));
  EXPECT_THAT(std::string(Choose().status.message()),
              AllOf(HasSubstr("cuDNN 9.11.0"), HasSubstr("cuDNN 9.99.0")));
  config_.train.tuning = "";
  Write("tuning.txt", Table(true, "cuDNN 9.11.0"));
  const Chosen resumed = Choose(Resumed());
  ASSERT_TRUE(resumed.status.ok()) << resumed.status;
  EXPECT_EQ(resumed.attention, "entrain (not measured)");
  EXPECT_THAT(resumed.notices, ElementsAre(HasSubstr("last bits may differ")));
  EXPECT_EQ(FolderTable(), Table(true, "cuDNN 9.11.0")) << "for when it is back";
}

TEST_F(RunTuningTest, ATableOfAnotherGpuIsRefusedAtAStartAndToldOnResuming) {
  ENTRAIN_REQUIRE_GPU();
  TuningTable table = ParseTuningTable(Table(true, asked_.name)).value();
  const std::string here = table.Place();
  table.products.replace(table.products.find(here), here.size(),
                         "NVIDIA X, 1 multiprocessors, cuBLASLt 1");
  const std::string foreign = ToText(table);
  TakeTable(foreign);
  EXPECT_THAT(std::string(Choose().status.message()),
              AllOf(HasSubstr("other.txt"), HasSubstr("NVIDIA X"), HasSubstr(here)));
  config_.train.tuning = "";
  Write("tuning.txt", foreign);
  const Chosen resumed = Choose(Resumed());
  ASSERT_TRUE(resumed.status.ok()) << resumed.status;
  EXPECT_THAT(resumed.notices, ElementsAre(AllOf(HasSubstr("tuning.txt is not used"),
                                                 HasSubstr("last bits may differ"))));
  EXPECT_THAT(asked_.prepared, IsEmpty());
}

TEST_F(RunTuningTest, AMissingOrDamagedTableIsAnErrorThatSaysWhatToDo) {
  ENTRAIN_REQUIRE_GPU();
  config_.train.tuning = folder_.path() + "/missing.txt";
  const absl::Status missing = Choose().status;
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()),
              AllOf(HasSubstr("train.tuning = \"" + config_.train.tuning + "\""),
                    HasSubstr("No such file"), HasSubstr("give the tuning.txt of a run")));
  config_.train.tuning = folder_.path();
  EXPECT_THAT(std::string(Choose().status.message()),
              AllOf(HasSubstr("train.tuning"), HasSubstr("Is a directory"),
                    HasSubstr("give the tuning.txt of a run")));
  TakeTable(Table(true, asked_.name) + "1 2 3\n");
  EXPECT_EQ(Choose().status.code(), absl::StatusCode::kInvalidArgument);
  TuningTable table = ParseTuningTable(Table(true, asked_.name)).value();
  table.products += "1 2 3\n";
  TakeTable(ToText(table));
  EXPECT_THAT(
      std::string(Choose().status.message()),
      AllOf(HasSubstr("other.txt"), HasSubstr("line 5 describes no matrix product: 1 2 3")));
  TakeTable("");
  EXPECT_THAT(std::string(Choose().status.message()), HasSubstr("is empty"));
}

// It need not be so: the file can be put back, or taken away knowingly.
TEST_F(RunTuningTest, ADamagedTableIsAnErrorOfAResumedRunToo) {
  ENTRAIN_REQUIRE_GPU();
  std::string damaged = Table(true, asked_.name);
  damaged[damaged.find("2.0000")] = '3';
  Write("tuning.txt", damaged);
  EXPECT_THAT(std::string(Choose(Resumed()).status.message()),
              AllOf(HasSubstr("tuning.txt: it was changed or damaged"),
                    HasSubstr("put the file back"), HasSubstr("last bits may differ")));
}

// A fake that only fills memory is faster than any attention.
TEST_F(RunTuningTest, WhatIsMeasuredFasterIsTakenWhereThereIsRoom) {
  ENTRAIN_REQUIRE_GPU();
  config_.train.tune = true;
  config_.model.entropy_regularizer.emplace();
  for (const int64_t later : {int64_t{0}, int64_t{1} << 50}) {
    OnLocalRanks(1, [&](std::unique_ptr<Communicator> world) {
      const auto context = FakeCudnn::ContextWith(asked_);
      const DeviceCollectives collectives = ChooseDeviceCollectives(*context, *world);
      const Mesh mesh(std::move(world), {}, collectives);
      Model model(config_.model, TensorParallel(mesh.device_tp(), false));
      AllocateForTraining(config_, *context, mesh, model);
      RunTuning tuning(FileSystem::Posix(), config_, *context, mesh.world());
      ASSERT_TRUE(tuning.Choose({}, {}).ok());
      ASSERT_TRUE(tuning.measures());
      ASSERT_TRUE(tuning.Measure(model, mesh, later).ok());
      EXPECT_FALSE(tuning.measures());
      EXPECT_THAT(tuning.text(), HasSubstr("products measured"));
      if (later == 0) {
        EXPECT_THAT(tuning.attention_text(),
                    AllOf(HasSubstr("cuDNN 9.99.0"), HasSubstr("measured")));
        EXPECT_EQ(tuning.attention_bytes(), 4096);
        EXPECT_EQ(asked_.run.back().pass, AttentionPass::kBackwardHeadEntropy);
      } else {
        EXPECT_THAT(tuning.attention_text(), HasSubstr("entrain (no room for the workspace"));
        EXPECT_EQ(tuning.attention_bytes(), 0);
      }
      ASSERT_TRUE(tuning.Write().ok());
      EXPECT_THAT(FolderTable(), HasSubstr(later == 0 ? " head cudnn " : " head entrain "));
    });
  }
}

TEST_F(RunTuningTest, ARunThatBeganByNoTableGoesOnByNone) {
  ENTRAIN_REQUIRE_GPU();
  const RunTuning::Start start = Resumed();
  EXPECT_THAT(Choose(start).notices, IsEmpty());
  config_.train.tune = true;
  const Chosen resumed = Choose(start);
  ASSERT_TRUE(resumed.status.ok()) << resumed.status;
  EXPECT_THAT(resumed.notices, ElementsAre(HasSubstr("began by no table")));
}

TEST_F(RunTuningTest, ARunWhoseTableIsGoneSaysThatBitsMayDiffer) {
  ENTRAIN_REQUIRE_GPU();
  config_.train.tuning = "other.txt";
  const RunTuning::Start start = Resumed();
  for (const std::string now : {"other.txt", ""}) {
    config_.train.tuning = now;
    const Chosen resumed = Choose(start);
    ASSERT_TRUE(resumed.status.ok()) << resumed.status;
    EXPECT_THAT(resumed.notices, ElementsAre(AllOf(HasSubstr("tuning.txt is missing"),
                                                   HasSubstr("last bits may differ"))));
  }
}

// A dry run on a machine without a GPU checks what can be checked.
TEST_F(RunTuningTest, WhereTheCpuStandsInATableIsReadAndNotTaken) {
  ENTRAIN_REQUIRE_GPU();
  const auto plan = [&] {
    Chosen planned;
    RunLocalRanks(1, [&](Communicator& world) {
      RunTuning tuning(FileSystem::Posix(), config_, Cpu(), world);
      planned.status = tuning.Choose({}, {.dry_run = true});
      planned.attention = tuning.attention_text();
      planned.text = tuning.text();
      planned.bytes = tuning.attention_bytes();
    });
    return planned;
  };
  config_.train.tuning = folder_.path() + "/missing.txt";
  EXPECT_THAT(std::string(plan().status.message()),
              AllOf(HasSubstr("train.tuning"), HasSubstr("No such file")));
  const std::string table = Table(true, asked_.name);
  TakeTable(table.substr(0, table.rfind("checksum")));
  EXPECT_THAT(std::string(plan().status.message()), HasSubstr("cut off"));
  TakeTable(table);
  const Chosen planned = plan();
  ASSERT_TRUE(planned.status.ok()) << planned.status;
  EXPECT_THAT(planned.text, AllOf(HasSubstr("0 products in " + config_.train.tuning),
                                  HasSubstr("measured on " + ParseTuningTable(table)->Place())));
  EXPECT_EQ(planned.attention,
            "cuDNN for the backward (by the table), provided that the GPU's machine has it");
  EXPECT_GT(planned.bytes, 0);
  config_.train.tuning = "";
  config_.train.tune = true;
  EXPECT_EQ(plan().text, "measured when the run starts");
  config_.train.attention = AttentionChoice::kCudnn;
  EXPECT_EQ(plan().attention,
            "cuDNN for the backward (asked for), provided that the GPU's machine has it");
}

TEST_F(RunTuningTest, OnACpuThereIsNothingToChoose) {
  const auto choose = [&] {
    const RunTuning::Start start{.on_cpu = "the CPU computes (no driver)"};
    std::string notice;
    absl::Status status;
    RunLocalRanks(1, [&](Communicator& world) {
      RunTuning tuning(FileSystem::Posix(), config_, Cpu(), world);
      status = tuning.Choose({}, start);
      EXPECT_FALSE(tuning.measures());
      EXPECT_EQ(tuning.attention_text(), "");
      if (!tuning.notices().empty()) notice = tuning.notices().front();
    });
    return status.ok() ? notice : std::string(status.message());
  };
  EXPECT_EQ(choose(), "");
  config_.train.tune = true;
  EXPECT_THAT(choose(), HasSubstr("nothing to choose on the CPU"));
  config_.train.tune = false;
  config_.train.tuning = "a";
  EXPECT_THAT(choose(), AllOf(HasSubstr("train.tuning = \"a\""), HasSubstr("no driver"),
                              HasSubstr("leave it out")));
  config_.train.tuning = "";
  config_.train.attention = AttentionChoice::kCudnn;
  EXPECT_THAT(choose(), AllOf(HasSubstr("cuDNN needs a GPU, and the CPU computes (no driver)"),
                              HasSubstr(R"(set it to "entrain" or "auto")")));
}

}  // namespace
}  // namespace entrain
