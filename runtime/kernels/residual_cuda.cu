#include "runtime/kernels/cuda_partials.cuh"
#include "runtime/kernels/cuda_scratch.h"
#include "runtime/kernels/residual.h"
#include "runtime/kernels/residual_cuda.cuh"

namespace entrain::cuda {
namespace {

// Without α and β.
template <typename T>
struct PlainBackward {
  static constexpr int kInputs = 1;
  const float* dout;
  float* dy;  // or null: nothing to copy
  T* df;

  template <int n>
  __device__ __forceinline__ void Load(int64_t i, float (&values)[1][n]) const {
    LoadVector(dout + i, values[0]);
  }
  template <int n>
  __device__ __forceinline__ void Store(int64_t i, const float (&values)[1][n]) const {
    StoreVector(df + i, values[0]);
    if (dy != nullptr) StoreVector(dy + i, values[0]);
  }
};

// Elements of a block: part of the definition of the sums.
constexpr int64_t kChunk = 8192;
constexpr int kThreads = 256;

template <typename F, typename DF>
struct ScaledOperands {
  const float* dout;
  const float* y;
  const F* f;
  ResidualScalars scalars;
  float* dy;
  DF* df;
};

// Σ dout·f and Σ dout·y. Aligned to be read at once.
struct alignas(16) Sums {
  double with_f = 0.0;
  double with_y = 0.0;
};

// n elements from i on: df and dy, and their share of the sums. dy may lie over dout.
template <int n, typename F, typename DF>
__device__ __forceinline__ void BackwardElements(const ScaledOperands<F, DF>& o, int64_t i,
                                                 float beta, float inverse_alpha, Sums& sums) {
  float dout[n], y[n], f[n], dy[n], df[n];
  LoadVector(o.dout + i, dout);
  LoadVector(o.y + i, y);
  LoadVector(o.f + i, f);
#pragma unroll
  for (int j = 0; j < n; ++j) {
    dy[j] = beta * dout[j];
    df[j] = inverse_alpha * dout[j];
    sums.with_f += static_cast<double>(dout[j]) * static_cast<double>(f[j]);
    sums.with_y += static_cast<double>(dout[j]) * static_cast<double>(y[j]);
  }
  StoreVector(o.dy + i, dy);
  StoreVector(o.df + i, df);
}

// partial[b]: block b's sums.
template <typename F, typename DF>
__global__ void __launch_bounds__(kThreads)
    ScaledBackwardKernel(ScaledOperands<F, DF> o, int64_t size, bool fours, Sums* partial) {
  __shared__ double scratch[kMaxWarps];
  const float beta = o.scalars.Beta();
  const float inverse_alpha = 1.0F / o.scalars.Alpha();
  const int64_t begin = blockIdx.x * kChunk;
  const int64_t rest = size - begin;
  const auto thread = static_cast<int>(threadIdx.x);
  Sums sums;
  if (fours && rest >= kChunk) {
    for (int i = 4 * thread; i < kChunk; i += 4 * kThreads) {
      BackwardElements<4>(o, begin + i, beta, inverse_alpha, sums);
    }
  } else {
    const auto count = static_cast<int>(rest < kChunk ? rest : kChunk);
    for (int i = thread; i < count; i += kThreads) {
      BackwardElements<1>(o, begin + i, beta, inverse_alpha, sums);
    }
  }
  const double with_f = BlockReduce(sums.with_f, scratch, SumOf());
  const double with_y = BlockReduce(sums.with_y, scratch, SumOf());
  if (thread == 0) partial[blockIdx.x] = {with_f, with_y};
}

__device__ __forceinline__ void SetOrAdd(float* to, double value, bool accumulate) {
  *to = static_cast<float>(accumulate ? static_cast<double>(*to) + value : value);
}

// One block, whose time is its threads' latencies, one load after another: many threads, and kSumsAhead loads under way in each.
constexpr int kSumThreads = 512;
constexpr int kSumsAhead = 4;

__global__ void __launch_bounds__(kSumThreads)
    ScalarGradientsKernel(const Sums* partial, int64_t chunks, ResidualScalars scalars,
                          float* dalpha, float* dbeta, bool accumulate) {
  __shared__ double scratch[kMaxWarps];
  Sums mine;
#pragma unroll kSumsAhead
  for (int64_t i = threadIdx.x; i < chunks; i += kSumThreads) {
    const Sums sums = partial[i];
    mine.with_f += sums.with_f;
    mine.with_y += sums.with_y;
  }
  const double with_f = BlockReduce(mine.with_f, scratch, SumOf());
  const double with_y = BlockReduce(mine.with_y, scratch, SumOf());
  if (threadIdx.x != 0) return;
  const double alpha = static_cast<double>(scalars.Alpha());
  SetOrAdd(dalpha, -with_f / (alpha * alpha), accumulate);
  SetOrAdd(dbeta, with_y, accumulate);
}

template <typename F, typename DF>
void ScaledBackward(Context& context, const ResidualBackwardArgs& args) {
  const int64_t size = args.dout.size();
  const int64_t chunks = (size + kChunk - 1) / kChunk;
  auto* partial = context.Cache<CudaScratch>().Take<Sums>(chunks);
  const ResidualScalars scalars(args.alpha, args.beta);
  const cudaStream_t stream = context.cuda().stream;
  if (chunks > 0) {
    Launch(ScaledBackwardKernel<F, DF>, static_cast<unsigned>(chunks), kThreads, 0, stream,
           ScaledOperands<F, DF>{.dout = args.dout.data<float>(),
                                 .y = args.y.data<float>(),
                                 .f = args.f.data<F>(),
                                 .scalars = scalars,
                                 .dy = args.dy.data<float>(),
                                 .df = args.df.data<DF>()},
           size, BeginAtFours(args.dout, args.y, args.f, args.dy, args.df), partial);
  }
  // Also for no elements at all: the sums are then 0.
  Launch(ScalarGradientsKernel, 1, kSumThreads, 0, stream, partial, chunks, scalars,
         args.dalpha.data<float>(), args.dbeta.data<float>(), args.accumulate);
}

}  // namespace

void ResidualForward(Context& context, const ResidualForwardArgs& args) {
  DispatchFloat(args.f.dtype(), [&]<typename T>(T) {
    ForEachElement(context, args.y.size(), BeginAtFours(args.y, args.f, args.out),
                   ResidualSum<T>{.y = args.y.data<float>(),
                                  .f = args.f.data<T>(),
                                  .scalars = ResidualScalars(args.alpha, args.beta),
                                  .out = args.out.data<float>()});
  });
}

void ResidualBackward(Context& context, const ResidualBackwardArgs& args) {
  DispatchFloat(args.df.dtype(), [&]<typename DF>(DF) {
    if (args.alpha) {
      DispatchFloat(args.f.dtype(), [&]<typename F>(F) { ScaledBackward<F, DF>(context, args); });
      return;
    }
    const bool copy = args.dy.raw() != args.dout.raw();
    ForEachElement(context, args.dout.size(), BeginAtFours(args.dout, args.dy, args.df),
                   PlainBackward<DF>{.dout = args.dout.data<float>(),
                                     .dy = copy ? args.dy.data<float>() : nullptr,
                                     .df = args.df.data<DF>()});
  });
}

}  // namespace entrain::cuda
