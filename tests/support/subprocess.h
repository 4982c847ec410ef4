// Runs the program under test and catches what it prints.
#ifndef ENTRAIN_TESTS_SUPPORT_SUBPROCESS_H_
#define ENTRAIN_TESTS_SUPPORT_SUBPROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

namespace entrain {

struct ProcessResult {
  int code = -1;       // exit code, or 128 + signal
  std::string output;  // standard output
  std::string error;   // standard error
};

// A process under way. It is killed if nobody waits for it.
class RunningProcess {
 public:
  // `arguments`: the first one is the program. `input`: its standard input.
  explicit RunningProcess(const std::vector<std::string>& arguments, const std::string& input = "");
  RunningProcess(const RunningProcess&) = delete;
  RunningProcess& operator=(const RunningProcess&) = delete;
  ~RunningProcess();

  pid_t pid() const { return child_; }
  void Signal(int signal) const;
  ProcessResult Wait();

 private:
  std::string folder_;  // of its input and output
  pid_t child_ = -1;
};

// Runs `arguments` (the first one is the program) with `input` on standard input and waits.
ProcessResult RunProcess(const std::vector<std::string>& arguments, const std::string& input = "");

// The built entrain with these arguments.
ProcessResult RunEntrain(std::vector<std::string> arguments, const std::string& input = "");

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_SUBPROCESS_H_
