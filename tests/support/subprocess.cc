#include "tests/support/subprocess.h"

#include <fcntl.h>
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

ProcessResult RunProcess(const std::vector<std::string>& arguments, const std::string& input) {
  char folder[] = "/tmp/entrain_process_XXXXXX";
  CHECK(mkdtemp(folder) != nullptr);
  const std::string base = folder;
  std::ofstream(base + "/in", std::ios::binary) << input;
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    Redirect(base + "/in", O_RDONLY, STDIN_FILENO);
    Redirect(base + "/out", O_WRONLY | O_CREAT, STDOUT_FILENO);
    Redirect(base + "/err", O_WRONLY | O_CREAT, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  ProcessResult result;
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.output = ReadAll(base + "/out");
  result.error = ReadAll(base + "/err");
  for (const char* name : {"/in", "/out", "/err"}) unlink((base + name).c_str());
  rmdir(folder);
  return result;
}

ProcessResult RunEntrain(std::vector<std::string> arguments, const std::string& input) {
  arguments.insert(arguments.begin(), ENTRAIN_BINARY);
  return RunProcess(arguments, input);
}

}  // namespace entrain
