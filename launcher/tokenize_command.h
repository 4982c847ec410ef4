// `entrain tokenize`: text files → token shards.
#ifndef ENTRAIN_LAUNCHER_TOKENIZE_COMMAND_H_
#define ENTRAIN_LAUNCHER_TOKENIZE_COMMAND_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "runtime/base/status.h"
#include "runtime/data/corpus.h"

namespace entrain {

struct TokenizeArguments {
  CorpusOptions corpus;
  std::string tokenizer = "gpt2";
};

// Adds the subcommand; when it is chosen, `*selected` becomes what is then to be run.
void AddTokenizeCommand(CLI::App& app, std::function<absl::Status()>* selected);

// Runs it: progress to standard error when that is a terminal, a summary to standard output.
absl::Status RunTokenize(const TokenizeArguments& arguments);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TOKENIZE_COMMAND_H_
