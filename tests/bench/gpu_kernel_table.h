// The table of kernels: each op of a training step at the shapes of GPT-2 124M and 65,536 tokens, with its share of what the GPU can
// do at most.
#ifndef ENTRAIN_TESTS_BENCH_GPU_KERNEL_TABLE_H_
#define ENTRAIN_TESTS_BENCH_GPU_KERNEL_TABLE_H_

#include <string>

#include "runtime/device/context.h"
#include "tests/bench/gpu_results.h"

namespace entrain {

enum class BenchSize { kSmoke, kQuick, kFull };

// Prints a line for each op whose name has `filter` in it, matrix products among them or not, and adds it to the results.
void KernelTable(Context& context, BenchSize size, bool products, const std::string& filter,
                 const GpuResults& results);

}  // namespace entrain

#endif  // ENTRAIN_TESTS_BENCH_GPU_KERNEL_TABLE_H_
