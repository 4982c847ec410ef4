// ParallelFor: independent tasks over the context's threads.
//
// Which thread runs a task must never change a result: a task writes only what is its own, and sums over tasks are
// made from per-task partial results in task order (SumChunks). Results are then the same for any number of threads.
#ifndef ENTRAIN_RUNTIME_DEVICE_PARALLEL_FOR_H_
#define ENTRAIN_RUNTIME_DEVICE_PARALLEL_FOR_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "runtime/device/context.h"

#ifdef ENTRAIN_TSAN
#include <thread>
#endif

namespace entrain {

// Calls task(i) for i in [0, num_tasks), each thread taking one contiguous range.
template <typename Task>
void ParallelFor(const Context& context, int64_t num_tasks, Task&& task) {
  const auto num_threads =
      static_cast<int>(std::min<int64_t>(context.num_threads(), std::max<int64_t>(num_tasks, 1)));
  auto run_range = [&](int thread) {
    const int64_t begin = num_tasks * thread / num_threads;
    const int64_t end = num_tasks * (thread + 1) / num_threads;
    for (int64_t i = begin; i < end; ++i) task(i);
  };
  if (num_threads == 1) {
    run_range(0);
    return;
  }
#ifdef ENTRAIN_TSAN
  std::vector<std::thread> threads;
  for (int thread = 1; thread < num_threads; ++thread) threads.emplace_back(run_range, thread);
  run_range(0);
  for (std::thread& thread : threads) thread.join();
#else
#pragma omp parallel for num_threads(num_threads) schedule(static, 1)
  for (int thread = 0; thread < num_threads; ++thread) run_range(thread);
#endif
}

// Calls body(begin, end) for consecutive chunks of `chunk` (the last may be shorter) that cover [0, size).
template <typename Body>
void ParallelForChunks(const Context& context, int64_t size, int64_t chunk, Body&& body) {
  ParallelFor(context, (size + chunk - 1) / chunk,
              [&](int64_t i) { body(i * chunk, std::min(size, (i + 1) * chunk)); });
}

// Sum over consecutive chunks of body(begin, end), which returns a double. The chunk size is part of the result's
// definition: chunks are summed in order, whatever the number of threads.
template <typename Body>
double SumChunks(const Context& context, int64_t size, int64_t chunk, Body&& body) {
  std::vector<double> partial(static_cast<size_t>((size + chunk - 1) / chunk));
  ParallelForChunks(context, size, chunk, [&](int64_t begin, int64_t end) {
    partial[static_cast<size_t>(begin / chunk)] = body(begin, end);
  });
  double sum = 0.0;
  for (const double value : partial) sum += value;
  return sum;
}

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_PARALLEL_FOR_H_
