// entrain eval: loss, penalty and head entropies of a model over a token set.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "launcher/command_line.h"
#include "launcher/commands.h"
#include "launcher/compute_options.h"
#include "launcher/device_limits.h"
#include "launcher/entropy_table.h"
#include "launcher/evaluator.h"
#include "launcher/memory_plan.h"
#include "launcher/model_source.h"
#include "launcher/standard_output.h"

namespace entrain {
namespace {

struct EvalOptions {
  std::string model;
  std::string tokens;
  std::string format = "auto";
  int64_t batch = 8;
  int64_t max_batches = 0;
  ComputeOptions compute;
  bool json = false;
};

void PrintJson(const Evaluation& e) {
  const nlohmann::json json = {
      {"loss", e.loss},   {"perplexity", std::exp(e.loss)},    {"penalty", e.penalty},
      {"total", e.total}, {"head_entropy", e.entropy.Means()}, {"tokens", e.tokens}};
  std::printf("%s\n", json.dump().c_str());
}

void PrintText(const LoadedModel& loaded, const Evaluation& e) {
  std::printf("model       %s\ntokens      %lld\nloss        %.6f nats a token\n",
              loaded.origin.c_str(), static_cast<long long>(e.tokens), e.loss);
  std::printf("perplexity  %.4f\n", std::exp(e.loss));
  if (loaded.model->regularizer() != nullptr) {
    std::printf("penalty     %.6f\ntotal       %.6f\n", e.penalty, e.total);
  }
  std::printf("\n%s", EntropyTable(e.entropy.Means(), loaded.model->config().context).c_str());
}

absl::Status RunEval(const EvalOptions& options) {
  FileSystem& fs = FileSystem::Posix();
  ASSIGN_OR_RETURN(const std::unique_ptr<Context> context, MakeContext(options.compute));
  ASSIGN_OR_RETURN(const LoadedModel loaded,
                   LoadModel(fs, options.model, *context, ComputeDType(options.compute)));
  const ModelConfig& config = loaded.model->config();
  ASSIGN_OR_RETURN(const TokenDataset data,
                   TokenDataset::Open(fs, options.tokens, *kTokenFormatNames.Find(options.format),
                                      config.context, config.vocab));
  const int64_t batch = std::min(options.batch, data.num_sequences());
  const int64_t bytes =
      EvaluationBytes(*loaded.model, loaded.model->compute_dtype(), context->device(), batch);
  RETURN_IF_ERROR(CheckFreeMemory(*context, bytes + ScratchBytes(context->device(), 0),
                                  absl::StrCat("evaluating ", batch, " sequences at a time"),
                                  "lower --batch"));
  Arena arena(*context, bytes);
  ASSIGN_OR_RETURN(const Evaluation evaluation,
                   Evaluate(*context, *loaded.model, arena, data, batch, options.max_batches));
  if (options.json) {
    PrintJson(evaluation);
  } else {
    PrintText(loaded, evaluation);
  }
  return FlushStandardOutput();
}

}  // namespace

void AddEvalCommand(CLI::App& app, SelectedCommand* selected) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand("eval", "Loss and head entropies of a model on tokens");
  AddModelOption(*command, &options->model);
  command->add_option("--tokens", options->tokens, "Token file, glob or folder of shards")
      ->required();
  command->add_option("--format", options->format, "Format of the token files")
      ->check(OneOf(kTokenFormatNames.Names()))
      ->capture_default_str();
  command
      ->add_option("--batch", options->batch,
                   "Sequences at a time; the result does not depend on it")
      ->check(IntegerFrom(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--max-batches", options->max_batches, "Stop after so many batches; 0: all")
      ->check(IntegerFrom(0))
      ->capture_default_str();
  AddComputeOptions(*command, &options->compute);
  command->add_flag("--json", options->json,
                    "One JSON object: loss, perplexity, penalty, total, head_entropy, tokens");
  command->callback([options, selected] { *selected = [options] { return RunEval(*options); }; });
}

}  // namespace entrain
