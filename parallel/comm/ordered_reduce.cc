#include "parallel/comm/ordered_reduce.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "runtime/base/check.h"

namespace entrain {
namespace {

// Elements at a time: the running result stays in the first-level cache while the sources pass.
constexpr int64_t kBlock = 1024;

template <typename Sum>
Sum Combine(ReduceOp op, Sum a, Sum b) {
  switch (op) {
    case ReduceOp::kSum:
      return a + b;
    case ReduceOp::kMax:
      return std::max(a, b);
    case ReduceOp::kMin:
      return std::min(a, b);
  }
  return a;
}

template <ReduceOp op, typename T, typename Sum>
void Reduce(const std::vector<const void*>& sources, T* out, int64_t count) {
  std::array<Sum, kBlock> sum;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const auto n = static_cast<size_t>(std::min(kBlock, count - begin));
    const T* first = static_cast<const T*>(sources[0]) + begin;
    for (size_t i = 0; i < n; ++i) sum[i] = static_cast<Sum>(first[i]);
    for (size_t s = 1; s < sources.size(); ++s) {
      const T* next = static_cast<const T*>(sources[s]) + begin;
      for (size_t i = 0; i < n; ++i) sum[i] = Combine(op, sum[i], static_cast<Sum>(next[i]));
    }
    for (size_t i = 0; i < n; ++i) out[begin + static_cast<int64_t>(i)] = static_cast<T>(sum[i]);
  }
}

template <typename T, typename Sum>
void Reduce(ReduceOp op, const std::vector<const void*>& sources, void* out, int64_t count) {
  auto* to = static_cast<T*>(out);
  switch (op) {
    case ReduceOp::kSum:
      return Reduce<ReduceOp::kSum, T, Sum>(sources, to, count);
    case ReduceOp::kMax:
      return Reduce<ReduceOp::kMax, T, Sum>(sources, to, count);
    case ReduceOp::kMin:
      return Reduce<ReduceOp::kMin, T, Sum>(sources, to, count);
  }
}

}  // namespace

void OrderedReduce(ReduceOp op, DType dtype, const std::vector<const void*>& sources, void* out,
                   int64_t count) {
  CHECK(!sources.empty());
  switch (dtype) {
    case DType::kF32:
      return Reduce<float, float>(op, sources, out, count);
    case DType::kBf16:
      return Reduce<Bf16, float>(op, sources, out, count);
    case DType::kF64:
      return Reduce<double, double>(op, sources, out, count);
    case DType::kI32:
      return Reduce<int32_t, int32_t>(op, sources, out, count);
  }
}

}  // namespace entrain
