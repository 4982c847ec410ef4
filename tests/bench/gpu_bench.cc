// Speed of the CUDA backend: a table of kernels and one of whole training steps.
//
//   gpu_bench [--quick | --smoke] [--json FILE] [kernels [PART OF A NAME] | ops [PART] | steps | CASE]
//   gpu_bench --profile CASE
//
// ops: kernels but matrix products, which are cuBLASLt's. --quick: about a minute. --smoke: shapes that an emulated GPU can do.
// --json: the results as well, an object a line. Each part and each case of the steps runs in a process of its own, so that the others
// go on when one fails. --profile: some steps of a case for a profiler to look at, not timed.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/bench/gpu_kernel_table.h"
#include "tests/bench/gpu_step_table.h"

namespace entrain {
namespace {

constexpr int kSkipped = 77;

struct Options {
  BenchSize size = BenchSize::kFull;
  std::string json;
  bool profile = false;
  std::vector<std::string> rest;
};

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--quick") {
      options.size = BenchSize::kQuick;
    } else if (argument == "--smoke") {
      options.size = BenchSize::kSmoke;
    } else if (argument == "--profile") {
      options.profile = true;
    } else if (argument == "--json" && i + 1 < argc) {
      options.json = argv[++i];
    } else {
      options.rest.push_back(argument);
    }
  }
  return options;
}

// Runs a part in a process of its own: this program again. False when it failed.
bool RunApart(char** argv, const Options& options, const std::vector<std::string>& part) {
  std::vector<std::string> arguments = {argv[0]};
  if (options.size == BenchSize::kQuick) arguments.emplace_back("--quick");
  if (options.size == BenchSize::kSmoke) arguments.emplace_back("--smoke");
  if (!options.json.empty()) arguments.insert(arguments.end(), {"--json", options.json});
  arguments.insert(arguments.end(), part.begin(), part.end());
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    execv("/proc/self/exe", pointers.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  std::printf("%s FAILED\n", part.back().c_str());
  return false;
}

bool RunSteps(char** argv, const Options& options) {
  bool good = true;
  for (const StepCase& one : StepCases(options.size)) {
    good = RunApart(argv, options, {one.name}) && good;
  }
  CompareStepCases(GpuResults(options.json));
  return good;
}

int RunAll(char** argv, Options options) {
  const std::string temporary = "/tmp/gpu_bench_" + std::to_string(getpid()) + ".jsonl";
  if (options.json.empty()) options.json = temporary;
  const GpuResults results(options.json);
  results.Clear();
  // Only counted: a context of this process would take memory from the others.
  if (const auto devices = Context::CudaDevices(); !devices.ok()) {
    std::printf("gpu_bench: left out: %s\n", std::string(devices.status().message()).c_str());
    return kSkipped;
  }
  bool good = RunApart(argv, options, {"kernels"});
  std::printf("\n");
  good = RunSteps(argv, options) && good;
  unlink(temporary.c_str());
  return good ? 0 : 1;
}

int RunPart(char** argv, const Options& options) {
  const GpuResults results(options.json);
  const std::string& part = options.rest.front();
  const std::string& last = options.rest.back();
  if (part == "steps") return RunSteps(argv, options) ? 0 : 1;
  const auto context = Context::CreateCuda(0, 0);
  if (!context.ok()) {
    std::printf("gpu_bench: left out: %s\n", std::string(context.status().message()).c_str());
    return kSkipped;
  }
  if (part == "kernels" || part == "ops") {
    KernelTable(**context, options.size, part == "kernels", options.rest.size() > 1 ? last : "",
                results);
    return 0;
  }
  for (const StepCase& one : StepCases(options.size)) {
    if (one.name != last) continue;
    if (options.profile) {
      RunStepsToProfile(**context, one);
    } else {
      RunStepCase(**context, one, results);
    }
    return 0;
  }
  std::printf("gpu_bench: no case \"%s\"; there are:\n", last.c_str());
  for (const StepCase& one : StepCases(options.size)) std::printf("  %s\n", one.name.c_str());
  return 2;
}

int Main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  return options.rest.empty() ? RunAll(argv, options) : RunPart(argv, options);
}

}  // namespace
}  // namespace entrain

int main(int argc, char** argv) { return entrain::Main(argc, argv); }
