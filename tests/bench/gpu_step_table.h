// The table of steps: whole training steps on random tokens through the trainer, on the GPU.
#ifndef ENTRAIN_TESTS_BENCH_GPU_STEP_TABLE_H_
#define ENTRAIN_TESTS_BENCH_GPU_STEP_TABLE_H_

#include <string>
#include <vector>

#include "launcher/train_config.h"
#include "runtime/device/context.h"
#include "tests/bench/gpu_kernel_table.h"
#include "tests/bench/gpu_results.h"

namespace entrain {

struct StepCase {
  std::string name;
  TrainConfig config;
  int warmup = 3;
  int steps = 10;  // timed; the median counts
};

// The cases of a size, the most telling first.
std::vector<StepCase> StepCases(BenchSize size);

// Prints a case's lines and adds it to the results: tokens/s, share of the peak, memory, where the time goes. A case that does not fit
// into the GPU's free memory is told and left out.
void RunStepCase(Context& context, const StepCase& step_case, const GpuResults& results);

// Some steps of a case as a profiler wants them: without a graph, by cuBLASLt's first choices, in silence.
void RunStepsToProfile(Context& context, StepCase step_case);

// Of pairs of cases: what the regulariser costs, and what a graph saves.
void CompareStepCases(const GpuResults& results);

}  // namespace entrain

#endif  // ENTRAIN_TESTS_BENCH_GPU_STEP_TABLE_H_
