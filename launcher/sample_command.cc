// entrain sample: text from a model.
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launcher/command_line.h"
#include "launcher/commands.h"
#include "launcher/compute_options.h"
#include "launcher/model_source.h"
#include "launcher/standard_output.h"
#include "launcher/token_sampler.h"
#include "model/decoder.h"
#include "runtime/data/tokenizer.h"

namespace entrain {
namespace {

struct SampleOptions {
  std::string model;
  std::string prompt;
  std::string tokenizer;
  int64_t tokens = 100;
  SamplingOptions sampling;
  ComputeOptions compute;
};

absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFor(const SampleOptions& options,
                                                        const LoadedModel& loaded) {
  const std::string spec = !options.tokenizer.empty()  ? options.tokenizer
                           : !loaded.tokenizer.empty() ? loaded.tokenizer
                                                       : "gpt2";
  ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, MakeTokenizer(spec));
  const int64_t vocab = loaded.model->config().vocab;
  if (tokenizer->vocab_size() > vocab) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tokenizer ", spec, " has ", tokenizer->vocab_size(), " tokens, the model ", vocab,
        ": name the tokenizer that the model was trained with, --tokenizer byte, gpt2 or a merges "
        "file"));
  }
  return tokenizer;
}

// Reads one more token, going on with the newer half when the context is full.
void Feed(Decoder& decoder, int64_t context, const std::vector<int32_t>& ids) {
  if (decoder.length() < context) return decoder.Append(ids.back());
  const auto keep = static_cast<size_t>((context + 1) / 2);
  decoder.Prefill(std::span(ids).last(std::min(keep, ids.size())));
}

void Write(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  const absl::StatusOr<std::string> text = tokenizer.Decode(ids);
  if (text.ok()) std::fwrite(text->data(), 1, text->size(), stdout);
  std::fflush(stdout);
}

absl::Status RunSample(const SampleOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Context> context, MakeContext(options.compute));
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(FileSystem::Posix(), options.model, *context,
                                                       ComputeDType(options.compute)));
  ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, TokenizerFor(options, loaded));

  // Every document began with an end of text.
  std::vector<int32_t> ids = {tokenizer->end_of_text()};
  tokenizer->Encode(options.prompt, &ids);
  const int64_t length = loaded.model->config().context;
  Decoder decoder(*context, *loaded.model);
  const auto read =
      static_cast<size_t>(std::min<int64_t>(length, static_cast<int64_t>(ids.size())));
  decoder.Prefill(std::span(ids).last(read));
  Write(*tokenizer, std::span(ids).subspan(1));
  const std::span<const float> known =
      decoder.logits().first(static_cast<size_t>(tokenizer->vocab_size()));
  for (int64_t i = 0; i < options.tokens; ++i) {
    const int32_t next = SampleToken(known, options.sampling, i);
    if (next == tokenizer->end_of_text()) break;
    ids.push_back(next);
    Write(*tokenizer, std::span(ids).last(1));
    if (i + 1 < options.tokens) Feed(decoder, length, ids);
  }
  std::printf("\n");
  return FlushStandardOutput();
}

}  // namespace

void AddSampleCommand(CLI::App& app, SelectedCommand* selected) {
  auto options = std::make_shared<SampleOptions>();
  CLI::App* command = app.add_subcommand("sample", "Write text with a model");
  AddModelOption(*command, &options->model);
  command->add_option("--prompt", options->prompt, "Text to go on from; may be empty");
  command->add_option("--tokens", options->tokens, "At most so many new tokens")
      ->check(IntegerFrom(0, 1 << 30))
      ->capture_default_str();
  command
      ->add_option("--temperature", options->sampling.temperature,
                   "Divides the logits; 0: always the most likely token")
      ->check(NumberFrom(0))
      ->capture_default_str();
  command->add_option("--top-k", options->sampling.top_k, "Among the k most likely; 0: among all")
      ->check(IntegerFrom(0))
      ->capture_default_str();
  command->add_option("--seed", options->sampling.seed, "The same seed, the same text")
      ->check(IntegerFrom(0))
      ->capture_default_str();
  command->add_option("--tokenizer", options->tokenizer,
                      "byte, gpt2 or a merges file; default: the run's, else gpt2");
  AddComputeOptions(*command, &options->compute);
  command->callback([options, selected] { *selected = [options] { return RunSample(*options); }; });
}

}  // namespace entrain
