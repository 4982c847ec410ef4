// `entrain encode` and `entrain decode`: text ↔ token ids, a JSON object a line.
#ifndef ENTRAIN_LAUNCHER_ENCODE_COMMAND_H_
#define ENTRAIN_LAUNCHER_ENCODE_COMMAND_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <istream>
#include <ostream>

#include "runtime/base/status.h"
#include "runtime/data/tokenizer.h"

namespace entrain {

// Adds the subcommands; when one is chosen, `*selected` becomes what is then to be run.
void AddEncodeCommand(CLI::App& app, std::function<absl::Status()>* selected);
void AddDecodeCommand(CLI::App& app, std::function<absl::Status()>* selected);

// {"text": string} or {"bytes_hex": string} → {"ids": [integers]}, a line each; other fields are passed over, and so are
// blank lines. Every line is flushed, so that a program may converse. `special`: "<|endoftext|>" is the special token.
// The first bad line ends it: InvalidArgument with the line's number.
absl::Status EncodeLines(Tokenizer& tokenizer, bool special, std::istream& in, std::ostream& out);

// {"ids": [integers]} → {"text": string} where the bytes are valid UTF-8, else {"bytes_hex": string}; with `hex` always the
// latter. OutOfRange: an id that is not in the vocabulary.
absl::Status DecodeLines(const Tokenizer& tokenizer, bool hex, std::istream& in, std::ostream& out);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_ENCODE_COMMAND_H_
