#include "tests/support/subprocess.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "runtime/base/check.h"

namespace entrain {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void Redirect(const std::string& path, int flags, int descriptor) {
  const int file = open(path.c_str(), flags, 0600);
  if (file < 0 || dup2(file, descriptor) < 0) _exit(126);
}

}  // namespace

RunningProcess::RunningProcess(const std::vector<std::string>& arguments,
                               const std::string& input) {
  char folder[] = "/tmp/entrain_process_XXXXXX";
  CHECK(mkdtemp(folder) != nullptr);
  folder_ = folder;
  std::ofstream(folder_ + "/in", std::ios::binary) << input;
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  child_ = fork();
  CHECK(child_ >= 0);
  if (child_ == 0) {
    Redirect(folder_ + "/in", O_RDONLY, STDIN_FILENO);
    Redirect(folder_ + "/out", O_WRONLY | O_CREAT, STDOUT_FILENO);
    Redirect(folder_ + "/err", O_WRONLY | O_CREAT, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
}

RunningProcess::~RunningProcess() {
  if (child_ > 0) {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  for (const char* name : {"/in", "/out", "/err"}) unlink((folder_ + name).c_str());
  rmdir(folder_.c_str());
}

void RunningProcess::Signal(int signal) const { CHECK(kill(child_, signal) == 0); }

ProcessResult RunningProcess::Wait() {
  int status = 0;
  CHECK(waitpid(child_, &status, 0) == child_);
  child_ = -1;
  return {.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          .output = ReadAll(folder_ + "/out"),
          .error = ReadAll(folder_ + "/err")};
}

ProcessResult RunProcess(const std::vector<std::string>& arguments, const std::string& input) {
  return RunningProcess(arguments, input).Wait();
}

ProcessResult RunEntrain(std::vector<std::string> arguments, const std::string& input) {
  const char* elsewhere = std::getenv("ENTRAIN_TEST_BINARY");
  arguments.insert(arguments.begin(), elsewhere != nullptr ? elsewhere : ENTRAIN_BINARY);
  return RunProcess(arguments, input);
}

}  // namespace entrain
