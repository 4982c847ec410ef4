// What a user can do wrong, through the real program: the exit code, and a message that says what, where, what is allowed
// and what to do. One line on standard error, nothing lost.
#include "tests/support/bad_input.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/support/model_file_edit.h"

namespace entrain {
namespace {

// ---- the command line ----

TEST_F(BadInputTest, NoCommand) { Expect(RunEntrain({}), kUsage, {"subcommand is required"}); }

TEST_F(BadInputTest, UnknownCommand) {
  Expect(RunEntrain({"trian"}), kUsage,
         {"no command 'trian', did you mean 'train'?", "commands: train, eval, sample"});
}

TEST_F(BadInputTest, TrainWithoutConfig) {
  Expect(RunEntrain({"train"}), kUsage, {"--config", "required"});
}

TEST_F(BadInputTest, UnknownOption) {
  Expect(Train({"--resum", "auto"}), kUsage,
         {"entrain train has no option --resum, did you mean '--resume'?", "entrain train --help"});
  // Also where CLI11 would complain of what is then missing.
  Expect(RunEntrain({"eval", "--modle", "m", "--tokens", "t"}), kUsage,
         {"entrain eval has no option --modle, did you mean '--model'?"});
}

TEST_F(BadInputTest, AWordTooMany) {
  Expect(Train({"now"}), kUsage, {"'now' is not expected here", "entrain train --help"});
}

TEST_F(BadInputTest, UnknownChoice) {
  Expect(RunEntrain({"eval", "--model", "m", "--tokens", "t", "--device", "gpu"}), kUsage,
         {"--device", "gpu", "auto", "cpu"});
}

TEST_F(BadInputTest, OptionsOutOfRange) {
  const auto eval = [](const std::string& option, const std::string& value) {
    return RunEntrain({"eval", "--model", "m", "--tokens", "t", option, value});
  };
  Expect(eval("--batch", "0"), kUsage,
         {"--batch", "'0' must be an integer from 1 to 1048576", "entrain eval --help"});
  Expect(eval("--batch", "010"), kUsage, {"--batch", "'010' must be an integer"});
  Expect(eval("--max-batches", "-1"), kUsage, {"--max-batches", "'-1' must be an integer >= 0"});
  Expect(eval("--threads", "two"), kUsage, {"'two' must be an integer from 0 to 1024"});
  Expect(eval("--format", "llm"), kUsage,
         {"--format", "'llm' must be one of auto, llmc, nanogpt, megatron, did you mean 'llmc'?"});
  Expect(RunEntrain({"sample", "--model", "m", "--temperature", "nan"}), kUsage,
         {"--temperature", "'nan' must be a number >= 0"});
  Expect(RunEntrain({"sample", "--model", "m", "--seed", "-1"}), kUsage, {"--seed", "'-1'"});
  Expect(RunEntrain({"tokenize", "--input", "i", "--output", "o", "--validation-fraction", "nan"}),
         kUsage, {"--validation-fraction", "'nan' must be a number from 0 to 1"});
  Expect(RunEntrain({"tokenize", "--input", "i", "--output", ""}), kUsage,
         {"--output", "a path that is not empty"});
}

TEST_F(BadInputTest, AFlagWithAValue) {
  Expect(RunEntrain({"eval", "--model", "m", "--tokens", "t", "--json=5"}), kUsage,
         {"--json takes no value", "entrain eval --help"});
  Expect(Train({"--dry-run=false"}), kUsage, {"--dry-run takes no value"});
}

TEST_F(BadInputTest, AnOverrideOfTwoLines) {
  Expect(Set("train.steps=4\ntrain.seed=1"), kBadConfig, {"train.steps=4\\ntrain.seed=1"});
}

TEST_F(BadInputTest, OutputWithoutAName) {
  for (const char* output : {".", "..", "/"}) {
    Expect(RunEntrain({"tokenize", "--input", path_, "--output", output}), kBadConfig,
           {absl::StrCat("output '", output, "' must be named")});
  }
}

TEST_F(BadInputTest, AnOptionBeforeItsCommand) {
  Expect(RunEntrain({"--confg", "c", "train"}), kUsage, {"entrain has no option --confg"});
}

TEST_F(BadInputTest, BadResume) {
  Expect(Train({"--resume", "yes"}), kBadConfig, {"--resume yes", "auto, never, must", "step"});
}

// ---- configuration, the commonest slips (tests/launcher/train_config_messages_test.cc has them all) ----

TEST_F(BadInputTest, MissingConfig) {
  Expect(RunEntrain({"train", "--config", folder() + "/none.toml"}), kBadConfig,
         {"none.toml", "No such file"});
}

TEST_F(BadInputTest, ConfigIsAFolder) {
  Expect(RunEntrain({"train", "--config", folder()}), kBadConfig, {folder()});
}

TEST_F(BadInputTest, ConfigIsNotToml) {
  WriteFile(folder() + "/bad.toml", "[train\nsteps = 1\n");
  Expect(RunEntrain({"train", "--config", folder() + "/bad.toml"}), kBadConfig, {"bad.toml:1"});
}

TEST_F(BadInputTest, UnknownKey) {
  Expect(Set("train.step=5"), kBadConfig, {"step", "did you mean 'steps'"});
}

TEST_F(BadInputTest, UnknownSection) {
  Expect(Set("optimiser.lr=5"), kBadConfig, {"optimiser", "did you mean 'optimizer'"});
}

TEST_F(BadInputTest, UnknownArchitecture) {
  Expect(Set("model.architecture=ereq"), kBadConfig, {"ereq", "did you mean 'ereg'"});
}

TEST_F(BadInputTest, ValueOutOfRange) {
  Expect(Set("optimizer.beta1=1.5"), kBadConfig, {"beta1", "1.5", "[0, 1)"});
}

TEST_F(BadInputTest, WrongType) {
  Expect(Set("train.steps=many"), kBadConfig, {"steps", "many", "integer"});
}

TEST_F(BadInputTest, WidthNotDivisibleByHeads) {
  Expect(Set("model.heads=3"), kBadConfig, {"width", "20", "heads", "3"});
}

TEST_F(BadInputTest, BatchNotDivisibleByMicroBatch) {
  Expect(Set("train.micro_batch=3"), kBadConfig, {"global_batch", "4", "micro_batch", "3"});
}

TEST_F(BadInputTest, CudaInACpuBuild) {
  Expect(Set("train.device=cuda"), kBadConfig,
         {"entrain: train.device = cuda: this build has no CUDA backend", "cpu or auto"});
  for (const std::string command : {"eval", "sample"}) {
    std::vector<std::string> words = {command, "--model", folder(), "--device", "cuda"};
    if (command == "eval") words.insert(words.end(), {"--tokens", "t"});
    Expect(RunEntrain(words), kBadConfig,
           {"entrain: --device cuda: this build has no CUDA backend", "cpu or auto"});
  }
}

// Why the CPU computes, and what to do.
TEST_F(BadInputTest, WhatNeedsAGpu) {
  const std::string on_cpu = "this run computes on the CPU (train.device = ";
  const std::vector<std::vector<std::string>> asked = {
      {"train.attention=cudnn", "train.attention = cudnn: ", "set it to \"entrain\" or \"auto\""},
      {"train.tuning=t.txt", "train.tuning = \"t.txt\"", "leave it out"},
      {"train.tf32=true", "train.tf32 = true", "set it to false"},
      {"parallel.backend=nccl", "parallel.backend = nccl", "set it to \"auto\" or \"mpi\""}};
  for (const auto& row : asked) {
    const std::string precision = row[0] == "train.tf32=true" ? "fp32" : "bf16";
    Expect(Train({"--set", "model.temperature=none", "--set", "train.precision=" + precision,
                  "--set", row[0]}),
           kBadConfig, {row[1], on_cpu + "auto: this build has no CUDA backend", row[2]});
  }
  Expect(Train({"--set", "train.tuning=t.txt", "--set", "train.device=cpu"}), kBadConfig,
         {on_cpu + "cpu)"});
}

TEST_F(BadInputTest, APlannedTableIsMissing) {
  const std::string missing = folder() + "/gone.txt";
  Expect(Train({"--dry-run", "--set", "train.device=cuda", "--set", "train.tuning=" + missing}),
         kBadConfig,
         {"train.tuning = \"" + missing + "\"", "No such file", "train.tune = true instead"});
}

TEST_F(BadInputTest, InitFromNothing) {
  Expect(Set("model.init_from=" + folder() + "/nowhere"), kBadConfig, {"nowhere", "No such file"});
}

// ---- data ----

TEST_F(BadInputTest, MissingTokens) {
  Expect(Set("data.train=" + folder() + "/gone.bin"), kBadConfig, {"gone.bin"});
}

TEST_F(BadInputTest, GlobWithoutMatch) {
  Expect(Set("data.train=" + folder() + "/gone*.bin"), kBadConfig, {"gone*.bin"});
}

TEST_F(BadInputTest, EmptyFolderOfTokens) {
  mkdir((folder() + "/empty").c_str(), 0700);
  Expect(Set("data.train=" + folder() + "/empty"), kBadConfig, {"/empty"});
}

TEST_F(BadInputTest, WrongMagic) {
  std::string bytes = ReadFile(folder() + "/tokens.bin");
  bytes[0] = 'x';
  WriteFile(folder() + "/wrong.bin", bytes);
  Expect(Set("data.train=" + folder() + "/wrong.bin"), kBadConfig,
         {"wrong.bin", "magic", "20240520"});
}

TEST_F(BadInputTest, TokensFromTheFuture) {
  std::string bytes = ReadFile(folder() + "/tokens.bin");
  bytes[4] = 9;
  WriteFile(folder() + "/future.bin", bytes);
  Expect(Set("data.train=" + folder() + "/future.bin"), kBadConfig, {"future.bin", "version", "9"});
}

TEST_F(BadInputTest, TruncatedTokens) {
  const std::string bytes = ReadFile(folder() + "/tokens.bin");
  WriteFile(folder() + "/cut.bin", bytes.substr(0, bytes.size() - 10));
  Expect(Set("data.train=" + folder() + "/cut.bin"), kBadConfig, {"cut.bin", "391"});
}

TEST_F(BadInputTest, TooFewTokensForOneSequence) {
  WriteTokens(folder() + "/short.bin", 5, 43, 1);
  Expect(Set("data.train=" + folder() + "/short.bin"), kBadConfig, {"short.bin", "5", "14"});
}

TEST_F(BadInputTest, TokenBeyondTheVocabulary) {
  WriteTokens(folder() + "/large.bin", 400, 60000, 1);
  Expect(Set("data.train=" + folder() + "/large.bin"), kBadConfig, {"large.bin", "43"});
}

TEST_F(BadInputTest, TokenBeyondTheVocabularyWhereNoStepReads) {
  std::string bytes = ReadFile(folder() + "/tokens.bin");
  bytes[bytes.size() - 2] = 43;
  WriteFile(folder() + "/last.bin", bytes);
  Expect(Train({"--dry-run", "--set", "data.train=" + folder() + "/last.bin"}), kBadConfig,
         {"last.bin: token 43 at position 390", "vocabulary of 43"});
}

TEST_F(BadInputTest, AMisspeltTokenizer) {
  Expect(Train({"--dry-run", "--set", "data.tokenizer=gtp2"}), kBadConfig,
         {"data.tokenizer: tokenizer 'gtp2' is neither gpt2, byte", "did you mean 'gpt2'?"});
}

TEST_F(BadInputTest, MegatronIndexWithoutItsBin) {
  WriteFile(folder() + "/alone.idx", "MMIDIDX");
  const ProcessResult result =
      Train({"--set", "data.train=" + folder() + "/alone.idx", "--set", "data.format=megatron"});
  EXPECT_NE(result.code, 0);
  Expect(result, result.code, {"alone"});
}

TEST_F(BadInputTest, BadUtf8InJsonl) {
  WriteFile(folder() + "/bad.jsonl", "{\"text\": \"fine\"}\n{\"text\": \"\xff\"}\n");
  const ProcessResult result = RunEntrain({"tokenize", "--input", folder() + "/bad.jsonl",
                                           "--output", folder() + "/out", "--tokenizer", "byte"});
  EXPECT_NE(result.code, 0);
  EXPECT_NE(result.error.find("bad.jsonl"), std::string::npos) << result.error;
  EXPECT_NE(result.error.find('2'), std::string::npos) << result.error;
}

TEST_F(BadInputTest, CompressedTextThatIsNone) {
  WriteFile(folder() + "/a.jsonl.zst", "{\"text\": \"plain\"}\n");
  Expect(RunEntrain({"tokenize", "--input", folder() + "/a.jsonl.zst", "--output",
                     folder() + "/out", "--tokenizer", "byte"}),
         kBadConfig, {"a.jsonl.zst", "not a sound zstd stream"});
}

// ---- models and checkpoints ----

TEST_F(BadInputTest, NoModelThere) {
  Expect(Eval(folder() + "/nothing", folder() + "/tokens.bin"), kBadConfig,
         {"nothing", "does not exist", "checkpoint folder", "Hugging Face folder"});
  Expect(Eval(folder(), folder() + "/tokens.bin"), kBadConfig, {"holds no model"});
  Expect(Eval(path_, folder() + "/tokens.bin"), kBadConfig, {"is not a folder"});
}

TEST_F(BadInputTest, ExportOverAModel) {
  TrainOnce();
  const std::vector<std::string> command = {"export", "--model", run(), "--output",
                                            folder() + "/hf"};
  EXPECT_EQ(RunEntrain(command).code, 0);
  Expect(RunEntrain(command), kBadConfig, {"/hf", "--overwrite"});
}

TEST_F(BadInputTest, WeightsThatDoNotFitTheirConfig) {
  TrainOnce();
  ASSERT_EQ(RunEntrain({"export", "--model", run(), "--output", folder() + "/hf"}).code, 0);
  std::string json = ReadFile(folder() + "/hf/config.json");
  const size_t at = json.find("43");
  ASSERT_NE(at, std::string::npos);
  json.replace(at, 2, "44");
  WriteFile(folder() + "/hf/config.json", json);
  Expect(Eval(folder() + "/hf", folder() + "/tokens.bin"), kBadConfig,
         {"model.safetensors", "wte.weight", "[43, 20]", "[44, 20]"});
}

TEST_F(BadInputTest, TruncatedWeights) {
  TrainOnce();
  ASSERT_EQ(RunEntrain({"export", "--model", run(), "--output", folder() + "/hf"}).code, 0);
  const std::string bytes = ReadFile(folder() + "/hf/model.safetensors");
  WriteFile(folder() + "/hf/model.safetensors", bytes.substr(0, bytes.size() - 4));
  Expect(Eval(folder() + "/hf", folder() + "/tokens.bin"), kBadConfig,
         {"model.safetensors", "cut short"});
}

TEST_F(BadInputTest, SwitchedOffBiasThatIsNotZero) {
  TrainOnce();
  ASSERT_EQ(RunEntrain({"export", "--model", run(), "--output", folder() + "/hf"}).code, 0);
  SetModelFileElement(folder() + "/hf", "transformer.h.1.attn.c_proj.bias", 0, 1.0F);
  Expect(Eval(folder() + "/hf", folder() + "/tokens.bin"), kBadConfig,
         {"transformer.h.1.attn.c_proj.bias[0] = 1", "switches this bias off"});
}

TEST_F(BadInputTest, TemperaturesThatCannotDivide) {
  TrainOnce();
  ASSERT_EQ(RunEntrain({"export", "--model", run(), "--output", folder() + "/hf"}).code, 0);
  for (const auto& [value, text] : {std::pair{0.0F, "0"}, {-1.0F, "-1"}, {NAN, "nan"}}) {
    SetModelFileElement(folder() + "/hf", "transformer.h.1.attn.temperature", 0, value);
    Expect(Eval(folder() + "/hf", folder() + "/tokens.bin"), kBadConfig,
           {absl::StrCat("transformer.h.1.attn.temperature has a temperature of ", text),
            "at least 1e-06"});
  }
}

TEST_F(BadInputTest, SampleWithTheWrongTokenizer) {
  TrainOnce();
  Expect(RunEntrain({"sample", "--model", run(), "--tokens", "3"}), kBadConfig,
         {"tokenizer byte", "257", "43"});
}

// ---- the run's folder ----

TEST_F(BadInputTest, UnwritableRunFolder) {
  WriteFile(folder() + "/file", "");
  Expect(Set("run.dir=" + folder() + "/file/run"), kBadConfig, {"/file"});
}

// Root reads everything, so root runs the program as somebody else.
TEST_F(BadInputTest, UnreadableFolder) {
  mkdir((folder() + "/closed").c_str(), 0);
  std::vector<std::string> command = {
      ENTRAIN_BINARY, "train", "--config", path_, "--set", "data.train=" + folder() + "/closed"};
  if (geteuid() == 0) {
    chmod(folder().c_str(), 0777);
    command.insert(command.begin(), {"/usr/bin/setpriv", "--reuid=65534", "--clear-groups"});
    if (RunProcess({command[0], command[1], command[2], ENTRAIN_BINARY, "--help"}).code != 0) {
      GTEST_SKIP() << "another user cannot start " ENTRAIN_BINARY;
    }
  }
  Expect(RunProcess(command), kBadConfig, {"/closed", "Permission denied"});
}

TEST_F(BadInputTest, NoSpaceForACheckpoint) {
  TrainOnce();
  // A limit on the size of files stands for a full disk: the checkpoint's shard does not fit.
  const std::string command =
      "ulimit -f 20; exec " ENTRAIN_BINARY " train --config " + path_ + " --set train.steps=8";
  const ProcessResult result = RunProcess({"/bin/bash", "-c", "trap '' XFSZ; " + command});
  Expect(result, kFailed, {"step_00000006"});
  const ProcessResult inspect = RunEntrain({"inspect", run()});
  EXPECT_EQ(inspect.code, 0) << inspect.error;
  EXPECT_NE(inspect.output.find("step          4"), std::string::npos) << inspect.output;
}

// What a command is run for must not be lost in silence.
TEST_F(BadInputTest, NoSpaceForTheResult) {
  TrainOnce();
  const auto run_full = [](const std::string& arguments) {
    return RunProcess({"/bin/bash", "-c", ENTRAIN_BINARY " " + arguments + " > /dev/full"});
  };
  const std::string eval = "eval --model " + run() + " --tokens " + folder() + "/tokens.bin";
  for (const std::string& arguments : {eval, eval + " --json", "inspect " + run()}) {
    Expect(run_full(arguments), kFailed, {"cannot write to standard output"});
  }
}

TEST_F(BadInputTest, UnreadableStandardInput) {
  const ProcessResult result =
      RunProcess({"/bin/bash", "-c", ENTRAIN_BINARY " encode --tokenizer byte < " + folder()});
  Expect(result, kBadConfig, {"cannot read standard input"});
}

TEST_F(BadInputTest, AMillionTimesTooLargeAModel) {
  Expect(Train({"--set", "model.width=1000000"}), kFailed,
         {"needs about", "GB are free", "micro_batch"});
}

}  // namespace
}  // namespace entrain
