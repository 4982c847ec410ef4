// Runs the program under test and catches what it prints.
#ifndef ENTRAIN_TESTS_SUPPORT_SUBPROCESS_H_
#define ENTRAIN_TESTS_SUPPORT_SUBPROCESS_H_

#include <string>
#include <vector>

namespace entrain {

struct ProcessResult {
  int code = -1;       // exit code, or 128 + signal
  std::string output;  // standard output
  std::string error;   // standard error
};

// Runs `arguments` (the first one is the program) with `input` on standard input and waits.
ProcessResult RunProcess(const std::vector<std::string>& arguments, const std::string& input = "");

// The built entrain with these arguments.
ProcessResult RunEntrain(std::vector<std::string> arguments, const std::string& input = "");

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_SUBPROCESS_H_
