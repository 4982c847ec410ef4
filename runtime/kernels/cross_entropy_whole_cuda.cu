// Cross-entropy over a whole vocabulary in one kernel: a row is read from memory once, and its gradient written.
#include <algorithm>

#include "runtime/kernels/cross_entropy_cuda.cuh"

namespace entrain::cuda {

namespace {

constexpr int kMostThreads = 384;
constexpr int kFewThreads = 128;
constexpr int64_t kWideRow = 8192;  // from here on, most threads

// Of a row, logits that a thread keeps in registers. Two blocks leave a thread 80: enough for these and all else. Beside them GPT-2's
// 50,257 need 113 KB of shared memory, half of what a Hopper has.
constexpr int kInRegisters = 56;

// Of shared memory: a kernel's own and, on a multiprocessor, what each block takes beside what it asks for.
constexpr int64_t kOwnSharedBytes = 512;
constexpr int64_t kBlockSharedBytes = 1024;

// What a thread keeps of columns [0, held) of its block's row: of the first columns vectors in registers, of the others in shared
// memory, where it alone reads and writes them, so that no barrier is needed. There they keep their type.
template <int kThreads, typename L, int n>
struct HeldShare {
  static constexpr int kVectors = kInRegisters / n;
  static constexpr int kStep = kThreads * n;
  float values[kVectors][n];
  L* shared;      // of the first column that is not in registers
  int mine;       // the thread's first column
  int in_shared;  // columns

  __device__ __forceinline__ HeldShare(L* shared_memory, int held)
      : shared(shared_memory),
        mine(static_cast<int>(threadIdx.x) * n),
        in_shared(held - kVectors * kStep) {}

  // Begins to read the columns for shared memory, −∞ behind the last.
  __device__ __forceinline__ void BeginCopies(const L* from, int count) {
    for (int at = mine; at < in_shared; at += kStep) {
      const int column = kVectors * kStep + at;
      if (n == kWideVector<L> && column + n <= count) {
        CopyAsync16(shared + at, from + column);
        continue;
      }
      float last[n];
      LoadLast(from, column, count, last);
      StoreVector(shared + at, last);
    }
    CommitCopies();
  }
  __device__ __forceinline__ void LoadRegisters(const L* from, int count) {
    LoadLogits(from, mine, kStep, count, values);
  }

  // Calls function(column, float (&values)[n]) for all columns of the one and the other.
  template <typename F>
  __device__ __forceinline__ void ForEachInRegisters(F&& function) {
#pragma unroll
    for (int k = 0; k < kVectors; ++k) function(mine + k * kStep, values[k]);
  }
  // kKeep: what the function makes of values is kept.
  template <bool kKeep, typename F>
  __device__ __forceinline__ void ForEachInShared(F&& function) {
#pragma unroll 2
    for (int at = mine; at < in_shared; at += kStep) {
      float of_shared[n];
      LoadVector(shared + at, of_shared);
      function(kVectors * kStep + at, of_shared);
      if constexpr (kKeep) StoreVector(shared + at, of_shared);
    }
  }
};

template <int n>
__device__ __forceinline__ float SumOfVector(const float (&values)[n]) {
  if constexpr (n == 1) return values[0];
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < n; i += 4)
    sum += (values[i] + values[i + 1]) + (values[i + 2] + values[i + 3]);
  return sum;
}

// Of the columns from `first` on.
template <int n, typename L>
__device__ __forceinline__ Normalizer NormalizerFrom(int first, const L* from, int count) {
  const int step = static_cast<int>(blockDim.x) * n;
  Normalizer normalizer;
  for (first += static_cast<int>(threadIdx.x) * n; first < count; first += step * kLoads) {
    float values[kLoads][n];
    LoadLogits(from, first, step, count, values);
    Add(values, &normalizer);
  }
  return normalizer;
}

// Columns [0, held) of a row stay on the multiprocessor between the two readings; the rest, of a larger vocabulary or on an A100, is
// read again, mostly from the L2 cache. All reads of what is held are begun before one is waited for, and while one of a
// multiprocessor's two blocks adds up or writes, the other reads. Exponentials are kept where there is room for a float.
template <int kThreads, typename L, typename T, int n>
__global__ void __launch_bounds__(kThreads, 2 * kMostThreads / kThreads)
    WholeCrossEntropyKernel(LogitRows<L> logits, const int32_t* targets, float* losses, T* dlogits,
                            int64_t dlogits_stride, float scale, int held) {
  constexpr bool kKeep = sizeof(L) == sizeof(float);
  __shared__ float warp_maxima[kMaxWarps];
  __shared__ double warp_sums[kMaxWarps];
  const int64_t row = blockIdx.x;
  const L* from = logits.row(row);
  T* to = dlogits + row * dlogits_stride;
  HeldShare<kThreads, L, n> share(reinterpret_cast<L*>(DynamicShared()), held);
  share.BeginCopies(from, logits.count);
  const Normalizer rest = NormalizerFrom<n>(held, from, logits.count);
  share.LoadRegisters(from, logits.count);
  const int target = TargetColumn(logits, targets[row]);
  const float target_logit = target < 0 ? 0.0F : ToFloat(from[target]);
  WaitForCopies<0>();

  float max = rest.max;
  const auto raise = [&](int, const float(&values)[n]) {
#pragma unroll
    for (const float value : values) max = fmaxf(max, value);
  };
  share.ForEachInRegisters(raise);
  share.template ForEachInShared<false>(raise);
  max = BlockReduce(max, warp_maxima, MaxOf());
  float sum = rest.sum * ShiftedExponential(rest.max, max);
  const auto add = [&](int, float(&values)[n]) {
#pragma unroll
    for (float& value : values) value = ShiftedExponential(value, max);
    sum += SumOfVector(values);
  };
  share.ForEachInRegisters(add);
  share.template ForEachInShared<kKeep>(add);
  // Behind its barriers all have read the whole row.
  const double row_sum = BlockReduce(double{sum}, warp_sums, SumOf());
  const RowGradient gradient{.max = max,
                             .inverse = static_cast<float>(1.0 / row_sum),
                             .scale = scale,
                             .count = logits.count,
                             .target = target};
  const auto write = [&](int column, float(&exponentials)[n]) {
    if (column >= held) return;
    gradient.ApplyToExponentials(column, exponentials);
    StoreVector(to + column, exponentials);
  };
  share.ForEachInRegisters(write);
  share.template ForEachInShared<false>([&](int column, float(&values)[n]) {
    if constexpr (!kKeep) {
#pragma unroll
      for (float& value : values) value = ShiftedExponential(value, max);
    }
    write(column, values);
  });
  WriteGradientFrom<n>(held, logits, from, to, gradient);
  if (threadIdx.x == 0) {
    losses[row] = static_cast<float>(double{max} - double{target_logit} + log(row_sum));
  }
}

// How many columns a block keeps. Two blocks share a multiprocessor, but one takes all shared memory where two would read more than
// a quarter of a row again: the L2 cache would not hold that for all blocks.
int64_t HeldColumns(int64_t shared_bytes, int64_t logit_bytes, int64_t columns,
                    int64_t in_registers) {
  const int64_t half = (shared_bytes + kBlockSharedBytes) / 2 - kBlockSharedBytes;
  const int64_t of_two = in_registers + (half - kOwnSharedBytes) / logit_bytes;
  const int64_t of_one = in_registers + (shared_bytes - kOwnSharedBytes) / logit_bytes;
  return std::min(columns, 4 * of_two >= 3 * columns ? of_two : of_one);
}

template <int kThreads, int n, typename L, typename T>
void LaunchWhole(Context& context, const CrossEntropyArgs& args) {
  constexpr int64_t kHeldInRegisters = int64_t{kInRegisters} * kThreads;
  const int64_t columns = (args.vocab.count + n - 1) / n * n;
  constexpr int64_t kBytes = sizeof(L);
  const int64_t held =
      HeldColumns(context.cuda().shared_bytes, kBytes, columns, kHeldInRegisters) / n * n;
  const auto bytes = static_cast<size_t>(std::max<int64_t>(held - kHeldInRegisters, 0) * kBytes);
  const auto kernel = WholeCrossEntropyKernel<kThreads, L, T, n>;
  AllowSharedBytes(kernel, bytes);
  Launch(kernel, dim3(static_cast<unsigned>(args.logits.rows())), dim3(kThreads), bytes,
         context.cuda().stream, RowsOf<L>(args.logits, args.vocab), args.targets.data<int32_t>(),
         args.loss.data<float>(), args.dlogits.data<T>(), args.dlogits.row_stride(), args.scale,
         static_cast<int>(held));
}

template <int n, typename L, typename T>
void WholeByVectors(Context& context, const CrossEntropyArgs& args) {
  if (args.logits.dim(-1) >= kWideRow) {
    LaunchWhole<kMostThreads, n, L, T>(context, args);
  } else {
    LaunchWhole<kFewThreads, n, L, T>(context, args);
  }
}

template <typename L, typename T>
void Whole(Context& context, const CrossEntropyArgs& args) {
  if (VectorsFit(args.logits, kWideVector<L>)) {
    WholeByVectors<kWideVector<L>, L, T>(context, args);
  } else {
    WholeByVectors<1, L, T>(context, args);
  }
}

}  // namespace

void WholeCrossEntropy(Context& context, const CrossEntropyArgs& args) {
  if (args.logits.rows() == 0) return;
  if (!args.dlogits) {  // nothing is read twice
    entrain::SoftmaxStatistics(context, args.statistics());
    return entrain::CrossEntropy(context, args);
  }
  if (args.logits.dtype() == DType::kBf16) return Whole<Bf16, Bf16>(context, args);
  DispatchFloat(args.dlogits.dtype(), [&]<typename T>(T) { Whole<float, T>(context, args); });
}

}  // namespace entrain::cuda
