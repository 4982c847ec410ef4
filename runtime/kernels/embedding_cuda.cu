#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elements.cuh"
#include "runtime/kernels/cuda_scratch.h"
#include "runtime/kernels/embedding.h"
#include "runtime/kernels/token_sort.cuh"

namespace entrain::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowsOfBlock = kThreads / kWarp;
// Loads of a thread that are under way at a time.
constexpr int kLoads = 8;
// Rows, in the order of their tokens, that a block adds one after another.
constexpr int kWindow = 64;

template <int n>
__device__ __forceinline__ void Add(const float (&from)[n], float (&to)[n]) {
#pragma unroll
  for (int i = 0; i < n; ++i) to[i] += from[i];
}

template <int n>
__device__ __forceinline__ void AddTo(const float (&from)[n], float* to) {
  float sum[n];
  LoadVector(to, sum);
  Add(from, sum);
  StoreVector(to, sum);
}

template <typename T>
struct Forward {
  const int32_t* tokens;
  const T* wte;
  const T* wpe;  // may be null
  float* out;
  int64_t rows;
  int64_t positions;
  int64_t first_position;
  int64_t first_token;
  int64_t table_rows;
  int width;
};

// A warp takes a row.
template <typename T, int n>
__global__ void __launch_bounds__(kThreads) EmbeddingForwardKernel(Forward<T> args) {
  const int64_t row = int64_t{blockIdx.x} * kRowsOfBlock + threadIdx.x / kWarp;
  if (row >= args.rows) return;
  const int64_t token_row = args.tokens[row] - args.first_token;
  const bool has_token = 0 <= token_row && token_row < args.table_rows;
  const T* token = has_token ? args.wte + token_row * args.width : nullptr;
  const int64_t position_row = args.first_position + row % args.positions;
  const T* position = args.wpe != nullptr ? args.wpe + position_row * args.width : nullptr;
  float* out = args.out + row * args.width;
#pragma unroll 4
  for (int column = static_cast<int>(threadIdx.x) % kWarp * n; column < args.width;
       column += kWarp * n) {
    float value[n] = {};
    if (token != nullptr) LoadVector(token + column, value);
    if (position != nullptr) {
      float addend[n];
      LoadVector(position + column, addend);
      Add(addend, value);
    }
    StoreVector(out + column, value);
  }
}

// A thread takes a position's vector of columns, and all of the batch in order.
template <int n>
__global__ void __launch_bounds__(kThreads)
    PositionGradientKernel(const float* dout, int64_t batch, int64_t positions, int width,
                           bool accumulate, float* dwpe) {
  const int64_t plane = positions * width;
  const int64_t element = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * n;
  if (element >= plane) return;
  const float* from = dout + element;
  float sum[n] = {};
  for (int64_t first = 0; first < batch; first += kLoads) {
    float values[kLoads][n];
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      if (first + k < batch) LoadVector(from + (first + k) * plane, values[k]);
    }
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      if (first + k < batch) Add(values[k], sum);
    }
  }
  if (accumulate) {
    AddTo(sum, dwpe + element);
  } else {
    StoreVector(dwpe + element, sum);
  }
}

// The tokens' gradient. Rows are taken in the order of their tokens, and within a token's in that of the batch, in windows of
// kWindow rows. A token's rows that lie in one window are summed there and added to dwte. The sums of a token that a window's
// border cuts go to `partials`, two rows a window: [0] of a token that began before the window, [1] of one that begins in it
// and goes on behind it. They are added in a second kernel.
struct TokenGradient {
  SortedTokens sorted;
  const float* dout;
  float* dwte;
  float* partials;
  int count;  // of tokens
  int32_t table_rows;
  int width;

  __device__ float* partial(int window, int which) const {
    return partials + (int64_t{window} * 2 + which) * width;
  }
};

// A window's rows of dwte, with those of the tokens before and behind, −1 where there is none; and places in the batch.
struct Window {
  int32_t rows[kWindow + 2];
  int32_t positions[kWindow];
  int size;

  __device__ int32_t row(int i) const { return rows[i + 1]; }
};

// Ends with a barrier.
__device__ __forceinline__ void LoadWindow(const TokenGradient& args, Window* window) {
  const int first = static_cast<int>(blockIdx.x) * kWindow;
  const int size = MinOf()(kWindow, args.count - first);
  for (int i = static_cast<int>(threadIdx.x); i < size + 2; i += static_cast<int>(blockDim.x)) {
    const int from = first + i - 1;
    window->rows[i] = 0 <= from && from < args.count ? args.sorted.row[from] : -1;
    if (i < size) window->positions[i] = args.sorted.position[first + i];
  }
  if (threadIdx.x == 0) window->size = size;
  __syncthreads();
}

// The sum of the rows [begin, end) of a window, all that it has of one token.
template <int n>
__device__ __forceinline__ void StoreSum(const TokenGradient& args, const Window& window, int begin,
                                         int end, int column, const float (&sum)[n]) {
  const int32_t row = window.row(begin);
  const int block = static_cast<int>(blockIdx.x);
  if (window.row(begin - 1) == row) {
    StoreVector(args.partial(block, 0) + column, sum);
  } else if (window.row(end) == row) {
    StoreVector(args.partial(block, 1) + column, sum);
  } else {
    AddTo(sum, args.dwte + int64_t{row} * args.width + column);
  }
}

// Grid: windows × blocks of columns.
template <int n>
__global__ void __launch_bounds__(kThreads) TokenWindowsKernel(TokenGradient args) {
  __shared__ Window window;
  LoadWindow(args, &window);
  const int column = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) * n;
  if (column >= args.width) return;
  int begin = 0;
  float sum[n] = {};
  for (int first = 0; first < window.size && window.row(first) < args.table_rows; first += kLoads) {
    float values[kLoads][n] = {};
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      if (first + k >= window.size) continue;
      LoadVector(args.dout + int64_t{window.positions[first + k]} * args.width + column, values[k]);
    }
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      const int end = first + k + 1;
      if (end > window.size || window.row(end - 1) == args.table_rows) continue;
      Add(values[k], sum);
      if (end < window.size && window.row(end) == window.row(end - 1)) continue;
      StoreSum(args, window, begin, end, column, sum);
      begin = end;
#pragma unroll
      for (int i = 0; i < n; ++i) sum[i] = 0.0F;
    }
  }
}

// The row of dwte that begins in a window and goes on behind it, −1 when there is none.
__device__ __forceinline__ int32_t RowCutBehind(const TokenGradient& args, int window) {
  const int32_t* rows = args.sorted.row;
  const int first = window * kWindow;
  const int next = first + kWindow;
  if (next >= args.count) return -1;
  const int32_t row = rows[next];
  const bool begins_here = rows[first] != row || first == 0 || rows[first - 1] != row;
  return rows[next - 1] == row && begins_here && row < args.table_rows ? row : -1;
}

// Grid: windows × blocks of columns. A frequent token has a partial sum in each of many windows, kLoads of which are loaded at
// a time.
template <int n>
__global__ void __launch_bounds__(kThreads) CutTokensKernel(TokenGradient args) {
  const int32_t row = RowCutBehind(args, static_cast<int>(blockIdx.x));
  const int column = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) * n;
  if (row < 0 || column >= args.width) return;
  float sum[n];
  LoadVector(args.partial(static_cast<int>(blockIdx.x), 1) + column, sum);
  bool same = true;
  for (int first = static_cast<int>(blockIdx.x) + 1; same; first += kLoads) {
    float values[kLoads][n];
    bool has[kLoads];
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      const int begin = (first + k) * kWindow;
      has[k] = begin < args.count && args.sorted.row[begin] == row;
      if (begin < args.count) LoadVector(args.partial(first + k, 0) + column, values[k]);
    }
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      if (has[k]) Add(values[k], sum);
      same = has[k];
    }
  }
  AddTo(sum, args.dwte + int64_t{row} * args.width + column);
}

struct Scratch {
  CudaScratch partials;
};

template <int n>
void AddTokenGradient(Context& context, const TokenGradient& args) {
  const int vectors = args.width / n;
  const unsigned column_blocks = BlocksFor(vectors, kThreads);
  const auto threads =
      BlocksFor(BlocksFor(vectors, static_cast<int>(column_blocks)), kWarp) * kWarp;
  const dim3 grid(BlocksFor(args.count, kWindow), column_blocks);
  Launch(TokenWindowsKernel<n>, grid, dim3(threads), 0, context.cuda().stream, args);
  Launch(CutTokensKernel<n>, grid, dim3(threads), 0, context.cuda().stream, args);
}

void AddTokenGradient(Context& context, const EmbeddingBackwardArgs& args) {
  const int64_t count = args.tokens.size();
  const int64_t width = args.dwte.dim(-1);
  const int64_t windows = BlocksFor(count, kWindow);
  const TokenGradient gradient{
      .sorted = SortTokens(context, args.tokens.data<int32_t>(), count, args.first_token,
                           args.dwte.dim(0)),
      .dout = args.dout.data<float>(),
      .dwte = args.dwte.data<float>(),
      .partials = context.Cache<Scratch>().partials.Take<float>(windows * 2 * width),
      .count = static_cast<int>(count),
      .table_rows = static_cast<int32_t>(args.dwte.dim(0)),
      .width = static_cast<int>(width)};
  DispatchVector(FoursFit(args.dout) && FoursFit(args.dwte),
                 [&](auto n) { AddTokenGradient<n()>(context, gradient); });
}

void SumPositionGradient(Context& context, const EmbeddingBackwardArgs& args) {
  const int64_t positions = args.tokens.dim(1);
  const int64_t width = args.dwpe.dim(-1);
  DispatchVector(FoursFit(args.dout) && FoursFit(args.dwpe), [&](auto n) {
    Launch(PositionGradientKernel<n()>, dim3(BlocksFor(positions * width / n(), kThreads)),
           dim3(kThreads), 0, context.cuda().stream, args.dout.data<float>(), args.tokens.dim(0),
           positions, static_cast<int>(width), args.accumulate, args.dwpe.data<float>());
  });
}

}  // namespace

void EmbeddingForward(Context& context, const EmbeddingForwardArgs& args) {
  if (args.out.size() == 0) return;
  DispatchFloat(args.wte.dtype(), [&]<typename T>(T) {
    const Forward<T> forward{.tokens = args.tokens.data<int32_t>(),
                             .wte = args.wte.data<T>(),
                             .wpe = args.wpe ? args.wpe.data<T>() : nullptr,
                             .out = args.out.data<float>(),
                             .rows = args.tokens.size(),
                             .positions = args.tokens.dim(1),
                             .first_position = args.first_position,
                             .first_token = args.first_token,
                             .table_rows = args.wte.dim(0),
                             .width = static_cast<int>(args.out.dim(-1))};
    const bool fours_fit =
        FoursFit(args.wte) && FoursFit(args.out) && (!args.wpe || FoursFit(args.wpe));
    DispatchVector(fours_fit, [&](auto n) {
      Launch(EmbeddingForwardKernel<T, n()>, dim3(BlocksFor(forward.rows, kRowsOfBlock)),
             dim3(kThreads), 0, context.cuda().stream, forward);
    });
  });
}

void EmbeddingBackward(Context& context, const EmbeddingBackwardArgs& args) {
  if (args.dwte.dim(-1) == 0) return;
  if (args.tokens.size() > 0 && args.dwte.dim(0) > 0) AddTokenGradient(context, args);
  if (args.dwpe && args.tokens.dim(1) > 0) SumPositionGradient(context, args);
}

}  // namespace entrain::cuda
