// Every mistake in a configuration, and the whole message that it gets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/train_config.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string MessageFor(const std::string& text, const std::vector<std::string>& overrides) {
  const absl::StatusOr<TrainConfig> config = ParseTrainConfig(text, "run.toml", overrides);
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(config.status().message());
}

struct MessageCase {
  const char* text;
  const char* message;
};

class TrainConfigMessageTest : public ::testing::TestWithParam<MessageCase> {};

TEST_P(TrainConfigMessageTest, SaysWhatWhereAndWhatIsAllowed) {
  // The keys that must be given come by --set, so that the text may open any section.
  EXPECT_EQ(MessageFor(GetParam().text, {"run.dir=r", "data.train=t"}), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Keys, TrainConfigMessageTest,
    ::testing::Values(
        MessageCase{
            "[trian]\nsteps = 1\n",
            "run.toml:1:2: unknown section [trian], did you mean 'train'? Sections: run, model, "
            "model.entropy_regularizer, data, train, optimizer, checkpoint, validation, "
            "parallel, logging"},
        MessageCase{"[cluster.nodes]\n",
                    "run.toml:1:2: unknown section [cluster]; sections: run, model, "
                    "model.entropy_regularizer, data, train, optimizer, checkpoint, validation, "
                    "parallel, logging"},
        MessageCase{
            "[checkpoint]\nkeap = 3\n",
            "run.toml:2:1: unknown key 'keap' in [checkpoint], did you mean 'keep'? Keys of "
            "[checkpoint]: every, keep, keep_every, background"},
        MessageCase{
            "[logging]\nclip = 3\n",
            "run.toml:2:1: unknown key 'clip' in [logging]; it belongs to [optimizer]; keys "
            "of [logging]: every"},
        MessageCase{"[logging]\nzzzzzzzz = 3\n",
                    "run.toml:2:1: unknown key 'zzzzzzzz' in [logging]; keys of [logging]: every"},
        MessageCase{"[model.entropy_regularizer]\nlambda = 1\n",
                    "run.toml:2:1: unknown key 'lambda' in [model.entropy_regularizer]; keys of "
                    "[model.entropy_regularizer]: granularity, strength, margin, max_entropy, "
                    "statistics, start_step, warmup_steps, threshold_init"},
        MessageCase{"steps = 3\n",
                    "run.toml:1:1: unknown key 'steps' outside any section; it belongs to [train]"},
        MessageCase{"train = 3\n", "run.toml:1:1: train = 3: must be a section [train]"}));

INSTANTIATE_TEST_SUITE_P(
    Types, TrainConfigMessageTest,
    ::testing::Values(
        MessageCase{"train.steps = 1.5\n",
                    "run.toml:1:7: [train] steps = 1.5: must be an integer >= 1"},
        MessageCase{"train.steps = 10.0\n",
                    "run.toml:1:7: [train] steps = 10.0: must be an integer >= 1"},
        MessageCase{"train.steps = \"10\"\n",
                    "run.toml:1:7: [train] steps = \"10\": must be an integer >= 1"},
        MessageCase{"train.recompute = 1\n",
                    "run.toml:1:7: [train] recompute = 1: must be true or false"},
        MessageCase{"optimizer.lr = \"fast\"\n",
                    "run.toml:1:11: [optimizer] lr = \"fast\": must be a number >= 0"},
        MessageCase{"optimizer.lr = true\n",
                    "run.toml:1:11: [optimizer] lr = true: must be a number >= 0"},
        MessageCase{"data.validation = [\"a\", \"b\"]\n",
                    "run.toml:1:6: [data] validation = an array: must be a string"},
        MessageCase{"data.validation = 2024-01-01\n",
                    "run.toml:1:6: [data] validation = a date or time: must be a string"},
        MessageCase{"train.steps = {a = 1}\n",
                    "run.toml:1:7: [train] steps = a table: must be an integer >= 1"},
        MessageCase{"model.entropy_regularizer = \"off\"\n",
                    "run.toml:1:7: [model] entropy_regularizer = \"off\": must be \"none\", true, "
                    "false or a table [model.entropy_regularizer]"}));

INSTANTIATE_TEST_SUITE_P(
    Ranges, TrainConfigMessageTest,
    ::testing::Values(
        MessageCase{"train.steps = 0\n",
                    "run.toml:1:7: [train] steps = 0: must be an integer >= 1"},
        MessageCase{"train.threads = -1\n",
                    "run.toml:1:7: [train] threads = -1: must be an integer from 0 to 1024"},
        MessageCase{"train.seed = -1\n",
                    "run.toml:1:7: [train] seed = -1: must be an integer >= 0"},
        MessageCase{"optimizer.beta1 = 1.0\n",
                    "run.toml:1:11: [optimizer] beta1 = 1.0: must be a number in [0, 1)"},
        MessageCase{"optimizer.eps = 0\n",
                    "run.toml:1:11: [optimizer] eps = 0: must be a number > 0"},
        MessageCase{"optimizer.lr = nan\n",
                    "run.toml:1:11: [optimizer] lr = nan: must be a number >= 0"},
        MessageCase{"optimizer.lr = inf\n",
                    "run.toml:1:11: [optimizer] lr = inf: must be a number >= 0"},
        MessageCase{"optimizer.lr = -1e-3\n",
                    "run.toml:1:11: [optimizer] lr = -0.001: must be a number >= 0"},
        MessageCase{
            "checkpoint.keep = 1\n",
            "run.toml:1:12: [checkpoint] keep = 1: must be an integer from 2 to 2147483647"},
        MessageCase{"checkpoint.keep = 4294967298\n",
                    "run.toml:1:12: [checkpoint] keep = 4294967298: must be an integer from 2 to "
                    "2147483647"},
        MessageCase{"model.layers = 0\n",
                    "run.toml:1:7: [model] layers = 0: must be an integer from 1 to 4096"},
        MessageCase{"model.entropy_regularizer.margin = 1.1\n",
                    "run.toml:1:27: [model.entropy_regularizer] margin = 1.1: must be a number in "
                    "[0, 1]"}));

INSTANTIATE_TEST_SUITE_P(
    Words, TrainConfigMessageTest,
    ::testing::Values(
        MessageCase{
            "train.precision = \"fp16\"\n",
            "run.toml:1:7: [train] precision = \"fp16\": must be one of fp32, bf16, did you "
            "mean 'fp32'?"},
        MessageCase{"optimizer.schedule = \"cosin\"\n",
                    "run.toml:1:11: [optimizer] schedule = \"cosin\": must be one of constant, "
                    "linear, cosine, did you mean 'cosine'?"},
        MessageCase{
            "data.format = \"parquet\"\n",
            "run.toml:1:6: [data] format = \"parquet\": must be one of auto, llmc, nanogpt, "
            "megatron"},
        MessageCase{"model.architecture = \"ereg-ik\"\n",
                    "run.toml:1:7: [model] architecture = \"ereg-ik\": must be one of sm-ln-g, "
                    "sm-ln-r, sm-ln, sm-g, sm-r, sm, sm-wnorm, sm-snorm, sm-scffn, sm-scfuffn, "
                    "sm-scfuffn-ik, ereg, ereg-ik, pythia, custom (k: a number of layers, as in "
                    "ereg-i6)"}));

INSTANTIATE_TEST_SUITE_P(
    Rules, TrainConfigMessageTest,
    ::testing::Values(
        MessageCase{"[model]\nwidth = 100\nheads = 12\n",
                    "run.toml:2:1: [model] width = 100: must be divisible by heads = 12"},
        MessageCase{"[train]\nattention = \"cudnn\"\n",
                    "run.toml:2:1: [train] attention = \"cudnn\": needs bf16; set precision = "
                    "\"fp32\" to \"bf16\"; or take \"entrain\" or \"auto\""},
        MessageCase{"[train]\nattention = \"cudnn\"\nprecision = \"bf16\"\ndevice = \"cpu\"\n",
                    "run.toml:2:1: [train] attention = \"cudnn\": needs a GPU; set device = "
                    "\"cpu\" to \"cuda\"; or take \"entrain\" or \"auto\""},
        MessageCase{
            "[train]\nlogits = \"bf16\"\n",
            "run.toml:2:1: [train] logits = \"bf16\": are of bf16 products; set precision = "
            "\"fp32\" to \"bf16\", or logits to \"fp32\""},
        MessageCase{"[train]\ntf32 = true\ndevice = \"cpu\"\n",
                    "run.toml:2:1: [train] tf32 = true: is of GPUs; set device = \"cpu\" to "
                    "\"cuda\""},
        MessageCase{"[train]\ntf32 = true\nprecision = \"bf16\"\n",
                    "run.toml:2:1: [train] tf32 = true: is of fp32 products; set precision = "
                    "\"bf16\" to \"fp32\", or tf32 to false"},
        MessageCase{"[train]\ntune = true\ntuning = \"a\"\n",
                    "run.toml:3:1: [train] tuning = \"a\": a run takes a table or measures one; "
                    "give it, or set tune = true"},
        MessageCase{"[model]\nheads = 7\n",
                    "run.toml: [model] width = 768: must be divisible by heads = 7"},
        MessageCase{"[model]\nffn_pruned = 13\n",
                    "run.toml:2:1: [model] ffn_pruned = 13: must be at most layers = 12"},
        MessageCase{"[model]\narchitecture = \"ereg-i6\"\nlayers = 4\n",
                    "run.toml: [model] ffn_pruned = 6: must be at most layers = 4"},
        MessageCase{"[model]\nposition = \"rotary\"\nrotary_pct = 0.02\n",
                    "run.toml:3:1: [model] rotary_pct = 0.02: leaves 0 of 64 dimensions of a head "
                    "(width / heads) to rotate; must leave at least 2"},
        MessageCase{"[model]\narchitecture = \"ereg\"\ntemperature_init = 1e-5\n",
                    "run.toml:3:1: [model] temperature_init = 1e-05: must be at least "
                    "temperature_min = 0.001"},
        MessageCase{
            "[train]\nglobal_batch = 10\nmicro_batch = 4\n",
            "run.toml:2:1: [train] global_batch = 10: must be a multiple of micro_batch = 4"},
        MessageCase{"[train]\nmicro_batch = 64\n",
                    "run.toml: [train] global_batch = 32: must be a multiple of micro_batch = 64"},
        MessageCase{"[optimizer]\nlr = 1e-4\nmin_lr = 1e-3\n",
                    "run.toml:3:1: [optimizer] min_lr = 0.001: must be at most lr = 1e-04"},
        MessageCase{"[validation]\nevery = 5\n",
                    "run.toml:2:1: [validation] every = 5: needs the token files of [data] "
                    "validation; give them, or set every = 0"}));

TEST(TrainConfigMessagesTest, WhatMustBeGiven) {
  EXPECT_EQ(MessageFor("data.train = \"t\"\n", {}),
            "run.toml: [run] dir: must be given (folder of the run: checkpoints, metrics.jsonl, "
            "verdict.json)");
  EXPECT_EQ(MessageFor("run.dir = \"r\"\n", {}),
            "run.toml: [data] train: must be given (token files: a file, a glob or a folder)");
  EXPECT_EQ(MessageFor("run.dir = \"\"\n", {}),
            "run.toml:1:5: [run] dir = \"\": must be a string that is not empty");
}

TEST(TrainConfigMessagesTest, WhatIsNoToml) {
  EXPECT_THAT(MessageFor("[run]\ndir = \"r\ntrain", {}), StartsWith("run.toml:2:9: "));
  EXPECT_THAT(MessageFor("run.dir = \"a\"\nrun.dir = \"b\"\n", {}), StartsWith("run.toml:2:"));
  EXPECT_THAT(MessageFor("[train]\n[train]\n", {}), StartsWith("run.toml:2:"));
  EXPECT_THAT(MessageFor("train.seed = 99999999999999999999\n", {}), StartsWith("run.toml:1:"));
  EXPECT_THAT(MessageFor("run.dir = \"\xff\"\n", {}), StartsWith("run.toml:1:"));
  EXPECT_THAT(MessageFor(std::string("\0\0\0", 3), {}), StartsWith("run.toml:1:"));
}

TEST(TrainConfigMessagesTest, OverridesAreNamedAsTheyWereGiven) {
  const std::string text = "run.dir = \"r\"\ndata.train = \"t\"\n[model]\nheads = 12\n";
  const auto message = [&](const std::string& set) { return MessageFor(text, {set}); };
  EXPECT_EQ(message("train.steps=ten"),
            "--set train.steps=ten: [train] steps = \"ten\": must be an integer >= 1");
  EXPECT_EQ(message("train.steps=1e3"),
            "--set train.steps=1e3: [train] steps = 1000.0: must be an integer >= 1");
  EXPECT_EQ(
      message("train.steps=1\nsteps=2"),
      "--set train.steps=1\\nsteps=2: [train] steps = \"1\\u000Asteps=2\": must be an integer "
      ">= 1");
  EXPECT_EQ(
      message("train.step=10"),
      "--set train.step=10: unknown key 'step' in [train], did you mean 'steps'? Keys of [train]: "
      "steps, global_batch, micro_batch, seed, precision, logits, device, threads, tf32, "
      "recompute, "
      "cuda_graph, attention, tune, tuning, max_bad_steps");
  EXPECT_THAT(message("tran.steps=10"),
              StartsWith("--set tran.steps=10: unknown section [tran], did you mean 'train'?"));
  EXPECT_EQ(
      message("steps=10"),
      "--set steps=10: must name the section: section.key=value; 'steps' is a key of [train]");
  EXPECT_EQ(message("every=10"),
            "--set every=10: must name the section: section.key=value; 'every' is a key of "
            "[checkpoint] and [validation] and [logging]");
  EXPECT_EQ(message("train.steps"),
            "--set train.steps: must be section.key=value, as in train.steps=100");
  EXPECT_EQ(message("model.width=100"),
            "--set model.width=100: [model] width = 100: must be divisible by heads = 12");
  EXPECT_EQ(message("model.entropy_regularizer={lambda=1}").substr(0, 66),
            "--set model.entropy_regularizer={lambda=1}: unknown key 'lambda' i");
  EXPECT_EQ(message("data.train="),
            "--set data.train=: [data] train = \"\": must be a string that is not empty");
  EXPECT_EQ(message("data.train=\xff"), "--set data.train=\xff: the value must be UTF-8 text");
}

}  // namespace
}  // namespace entrain
