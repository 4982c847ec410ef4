#include "launcher/command_line.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/nearest_name.h"

namespace entrain {
namespace {

bool IsOption(const std::string& word) { return word.size() > 1 && word[0] == '-'; }

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

std::vector<std::string> OptionNames(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back(absl::StrCat("--", name));
  }
  return names;
}

}  // namespace

std::optional<std::string> DescribeUnknownWord(const CLI::App& app) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  const CLI::App& command = parsed.empty() ? app : *parsed.front();
  const std::vector<std::string> words = command.remaining();
  if (words.empty()) return std::nullopt;
  // A misspelt option leaves its value behind as well: the option is what matters.
  const auto option = std::find_if(words.begin(), words.end(), IsOption);
  const std::string& word = option != words.end() ? *option : words.front();
  if (parsed.empty() && !IsOption(word)) {
    const std::vector<std::string> names = CommandNames(app);
    return absl::StrCat("there is no command '", word, "'", DidYouMean(word, names),
                        "; commands: ", absl::StrJoin(names, ", "));
  }
  const std::string title =
      absl::StrCat("entrain", parsed.empty() ? "" : " ", parsed.empty() ? "" : command.get_name());
  if (!IsOption(word)) {
    return absl::StrCat("'", word, "' is not expected here; see ", title, " --help");
  }
  const std::string name = word.substr(0, word.find('='));
  return absl::StrCat(title, " has no option ", name, DidYouMean(name, OptionNames(command)),
                      "; see ", title, " --help");
}

}  // namespace entrain
