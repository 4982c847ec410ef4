#include "launcher/tokenize_command.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/command_line.h"
#include "runtime/data/tokenizer.h"

namespace entrain {
namespace {

constexpr char kDescription[] =
    "Turn text into token shards for training.\n"
    "\n"
    "Reads .jsonl and .jsonl.zst (one JSON object a line, its text in --text-field), .txt (one "
    "document a file) and folders of those. Writes DIR/train_000000.bin, ... and "
    "DIR/val_000000.bin, ... in llm.c's format (uint16), an end-of-text token before each "
    "document, "
    "and DIR/index.json with the counts.\n"
    "\n"
    "All is written into DIR.tmp, which becomes DIR when it is complete: an interrupted run leaves "
    "no DIR, and the next run starts afresh. Memory does not grow with the input; a single "
    "document "
    "is held as a whole (at most 1 GiB).";

constexpr std::chrono::milliseconds kRedrawInterval{200};

// One line on a terminal, drawn over and over.
class TokenizeProgress {
 public:
  explicit TokenizeProgress(std::FILE* terminal) : terminal_(terminal) {}

  void Report(const CorpusProgress& progress) {
    const Clock::time_point now = Clock::now();
    if (terminal_ == nullptr || now - drawn_ < kRedrawInterval) return;
    drawn_ = now;
    const double percent = 100.0 * static_cast<double>(progress.input_bytes) /
                           static_cast<double>(std::max<int64_t>(progress.total_input_bytes, 1));
    const std::string line = absl::StrFormat(
        "\r%3.0f%%  %.1f MB of text  %d documents  %d tokens  %.1f MB/s\x1b[K", percent,
        1e-6 * static_cast<double>(progress.text_bytes), progress.documents, progress.tokens,
        MegabytesPerSecond(progress.text_bytes));
    std::fputs(line.c_str(), terminal_);
    std::fflush(terminal_);
  }

  void Clear() {
    if (terminal_ != nullptr) std::fputs("\r\x1b[K", terminal_);
  }

  double Seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  double MegabytesPerSecond(int64_t bytes) const {
    return 1e-6 * static_cast<double>(bytes) / std::max(Seconds(), 1e-9);
  }

 private:
  using Clock = std::chrono::steady_clock;

  std::FILE* terminal_;  // null: standard error is none
  Clock::time_point start_ = Clock::now();
  Clock::time_point drawn_ = start_;
};

std::string SummaryText(const CorpusSummary& summary, const std::string& output,
                        const TokenizeProgress& progress) {
  std::string text;
  for (const auto& [split, name] : kSplitNames.rows) {
    const CorpusSplit& counts = summary.splits[static_cast<size_t>(split)];
    if (counts.shards.empty()) continue;
    absl::StrAppendFormat(&text, "%-5s  %d documents  %d tokens  %d shard%s  %s\n",
                          std::string(name), counts.documents, counts.tokens, counts.shards.size(),
                          counts.shards.size() == 1 ? "" : "s",
                          JoinPath(output, std::string(name) + "_*.bin"));
  }
  absl::StrAppendFormat(&text, "%.1f MB of text from %d file%s in %.1f s (%.1f MB/s)\n",
                        1e-6 * static_cast<double>(summary.text_bytes), summary.num_files,
                        summary.num_files == 1 ? "" : "s", progress.Seconds(),
                        progress.MegabytesPerSecond(summary.text_bytes));
  return text;
}

absl::Status CheckArguments(const CorpusOptions& corpus) {
  const EncodeOptions& encode = corpus.encode;
  if (!encode.split_field.empty() && encode.validation_fraction > 0.0) {
    return absl::InvalidArgumentError(
        "--split-field and --validation-fraction exclude each other: give one of them");
  }
  for (const std::string& extension : corpus.extensions) {
    if (extension.size() >= 2 && extension.starts_with('.')) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "--extension '", extension, "' must begin with a dot and go on after it, as in .py"));
  }
  return absl::OkStatus();
}

void AddSplitOptions(CLI::App* command, EncodeOptions* encode) {
  command->add_option("--text-field", encode->text_field, "The JSON field that holds the text")
      ->capture_default_str();
  command->add_option("--split-field", encode->split_field,
                      "The JSON field that says where a document belongs: train, val, valid or "
                      "validation. Default: all to train");
  command
      ->add_option("--validation-fraction", encode->validation_fraction,
                   "Instead: this share of the documents, drawn by a hash of their number, to val")
      ->check(NumberFrom(0, 1));
}

}  // namespace

void AddTokenizeCommand(CLI::App& app, std::function<absl::Status()>* selected) {
  CLI::App* command = app.add_subcommand("tokenize", kDescription);
  auto arguments = std::make_shared<TokenizeArguments>();
  CorpusOptions& corpus = arguments->corpus;
  corpus.num_threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  command->add_option("--input", corpus.inputs, "Files and folders to read, in this order")
      ->required()
      ->expected(1, -1)
      ->type_name("PATH");
  command->add_option("--output", corpus.output, "The folder to make")
      ->required()
      ->check(NotEmpty())
      ->type_name("DIR");
  command
      ->add_option("--tokenizer", arguments->tokenizer,
                   "gpt2, byte, or the path of a merges.txt in GPT-2's form")
      ->capture_default_str();
  AddSplitOptions(command, &corpus.encode);
  command->add_option("--shard-tokens", corpus.shard_tokens, "Tokens of a shard, at most")
      ->check(IntegerFrom(1, 2147483647))
      ->capture_default_str();
  command->add_option("--extension", corpus.extensions,
                      "Further kinds of file that are one document each, such as .py");
  command->add_option("--threads", corpus.num_threads, "Threads that encode")
      ->check(IntegerFrom(1, 1024))
      ->capture_default_str();
  command->add_flag("--overwrite", corpus.overwrite,
                    "Replace token shards that DIR holds already, once the new ones are complete");
  command->callback(
      [arguments, selected] { *selected = [arguments] { return RunTokenize(*arguments); }; });
}

absl::Status RunTokenize(const TokenizeArguments& arguments) {
  RETURN_IF_ERROR(CheckArguments(arguments.corpus));
  ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, MakeTokenizer(arguments.tokenizer));
  TokenizeProgress progress(isatty(STDERR_FILENO) == 1 ? stderr : nullptr);
  const absl::StatusOr<CorpusSummary> summary =
      WriteCorpus(FileSystem::Posix(), *tokenizer, arguments.corpus,
                  [&](const CorpusProgress& report) { progress.Report(report); });
  progress.Clear();
  RETURN_IF_ERROR(summary.status());
  std::fputs(SummaryText(*summary, arguments.corpus.output, progress).c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace entrain
