#include "tests/support/emulated_gpu/emulated_matmul.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "runtime/tensor/dtype.h"

namespace entrain::emulated {
namespace {

float Load(cudaDataType type, const void* data, int64_t i) {
  return type == CUDA_R_32F ? static_cast<const float*>(data)[i]
                            : static_cast<float>(static_cast<const Bf16*>(data)[i]);
}

// To 10 bits of fraction, to nearest, away from zero in the middle.
float RoundToTf32(float x) {
  constexpr uint32_t kBelow = 1U << 13;
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::isfinite(x) ? std::bit_cast<float>((bits + kBelow / 2) & ~(kBelow - 1)) : x;
}

// The elements of a matrix as products take them, with its stride: as they lie, or converted to `converted`.
const float* AsFactors(const MatrixLayout& layout, const void* data, bool tf32,
                       std::vector<float>& converted) {
  if (layout.type == CUDA_R_32F && !tf32) return static_cast<const float*>(data);
  const int64_t size = (layout.columns - 1) * layout.stride + layout.rows;
  converted.resize(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) {
    const float value = Load(layout.type, data, i);
    converted[static_cast<size_t>(i)] = tf32 ? RoundToTf32(value) : value;
  }
  return converted.data();
}

void Store(cudaDataType type, void* data, int64_t i, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[i] = value;
  } else {
    static_cast<Bf16*>(data)[i] = Bf16(value);
  }
}

// sums [n][m] = (add: sums +) the terms [begin, end) of the product. What is column-major here is row-major there, the other
// way round.
void MultiplyInFloats(const MatmulJob& job, const float* a, const float* b, int64_t begin,
                      int64_t end, bool add, float* sums) {
  const int64_t m = job.layout_d.rows, n = job.layout_d.columns;
  const bool ta = job.product.transpose_a != CUBLAS_OP_N;
  const bool tb = job.product.transpose_b != CUBLAS_OP_N;
  const int64_t lda = job.layout_a.stride, ldb = job.layout_b.stride;
  dnnl_sgemm(tb ? 'T' : 'N', ta ? 'T' : 'N', n, m, end - begin, 1.0F,
             b + (tb ? begin * ldb : begin), ldb, a + (ta ? begin : begin * lda), lda,
             add ? 1.0F : 0.0F, sums, m);
}

// The same in doubles, rounded once. In what order the real library sums fp32 nobody says, and it differs from shape to shape: what
// tests see of the bounds that they hold whole models to is then what the backend's own ops do, not one order among many.
void MultiplyInDoubles(const MatmulJob& job, const float* a, const float* b, int64_t begin,
                       int64_t end, bool add, float* sums) {
  const int64_t m = job.layout_d.rows, n = job.layout_d.columns;
  const bool ta = job.product.transpose_a != CUBLAS_OP_N;
  const bool tb = job.product.transpose_b != CUBLAS_OP_N;
  const int64_t lda = job.layout_a.stride, ldb = job.layout_b.stride;
  constexpr int64_t kBlock = 256;  // rows at a time: those of op(a), as [k][row], and their sums
  std::vector<double> block(static_cast<size_t>((end - begin) * kBlock));
  std::vector<double> column(kBlock);
  for (int64_t first = 0; first < m; first += kBlock) {
    const int64_t rows = std::min(kBlock, m - first);
    for (int64_t k = begin; k < end; ++k) {
      for (int64_t i = 0; i < rows; ++i) {
        block[static_cast<size_t>((k - begin) * kBlock + i)] =
            ta ? a[(first + i) * lda + k] : a[k * lda + first + i];
      }
    }
    for (int64_t j = 0; j < n; ++j) {
      float* out = sums + j * m + first;
      for (int64_t i = 0; i < rows; ++i) column[static_cast<size_t>(i)] = add ? out[i] : 0.0;
      for (int64_t k = begin; k < end; ++k) {
        const double factor = tb ? b[k * ldb + j] : b[j * ldb + k];
        const double* terms = block.data() + (k - begin) * kBlock;
        for (int64_t i = 0; i < rows; ++i) column[static_cast<size_t>(i)] += terms[i] * factor;
      }
      for (int64_t i = 0; i < rows; ++i) {
        out[i] = static_cast<float>(column[static_cast<size_t>(i)]);
      }
    }
  }
}

void AddParts(const MatmulJob& job, int64_t size, std::vector<float>& sums) {
  static std::atomic<int> calls{0};
  const int parts = job.split.parts;
  const bool in_place = job.split.scheme == CUBLASLT_REDUCTION_SCHEME_INPLACE;
  const bool rounded =
      job.split.scheme == CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE && job.layout_d.type == CUDA_R_16BF;
  const int first = in_place ? calls++ % parts : 0;
  std::fill(sums.begin(), sums.end(), 0.0F);
  for (int i = 0; i < parts; ++i) {
    const float* part = static_cast<const float*>(job.workspace) + (first + i) % parts * size;
    for (int64_t j = 0; j < size; ++j) {
      sums[static_cast<size_t>(j)] += rounded ? static_cast<float>(Bf16(part[j])) : part[j];
    }
  }
}

std::vector<float> Sums(const MatmulJob& job) {
  const int64_t size = job.layout_d.rows * job.layout_d.columns;
  const int64_t terms =
      job.product.transpose_a == CUBLAS_OP_N ? job.layout_a.columns : job.layout_a.rows;
  std::vector<float> converted_a, converted_b, sums(static_cast<size_t>(size));
  const bool tf32 = job.product.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  const float* a = AsFactors(job.layout_a, job.a, tf32, converted_a);
  const float* b = AsFactors(job.layout_b, job.b, tf32, converted_b);
  const bool apart = job.split.scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
  for (int part = 0; part < job.split.parts; ++part) {
    const int64_t begin = terms * part / job.split.parts;
    const int64_t end = terms * (part + 1) / job.split.parts;
    float* to = apart ? static_cast<float*>(job.workspace) + part * size : sums.data();
    const bool add = !apart && part > 0;
    if (job.layout_a.type == CUDA_R_32F) {
      MultiplyInDoubles(job, a, b, begin, end, add, to);
    } else {
      MultiplyInFloats(job, a, b, begin, end, add, to);
    }
  }
  if (apart) AddParts(job, size, sums);
  return sums;
}

constexpr float kSqrtTwoOverPi = 0.7978845608028654F;
constexpr float kCubic = 0.044715F;

float Gelu(float x) {
  return 0.5F * x * (1.0F + std::tanh(kSqrtTwoOverPi * (x + kCubic * x * x * x)));
}
float GeluDerivative(float x) {
  const float t = std::tanh(kSqrtTwoOverPi * (x + kCubic * x * x * x));
  const float inner = kSqrtTwoOverPi * (1.0F + 3.0F * kCubic * x * x);
  return 0.5F * (1.0F + t) + 0.5F * x * (1.0F - t * t) * inner;
}

float Finish(const MatmulJob& job, float value, int64_t i, int64_t j) {
  const cudaDataType type = job.layout_d.type;
  const uint32_t epilogue = job.product.epilogue;
  if (job.product.has_bias()) value += Load(type, job.product.bias, i);
  if (!job.product.has_aux()) return value;
  const int64_t at = j * job.product.aux_stride + i;
  if (epilogue == CUBLASLT_EPILOGUE_DGELU) {
    return value * GeluDerivative(Load(type, job.product.aux, at));
  }
  Store(type, job.product.aux, at, value);
  return Gelu(value);
}

}  // namespace

void Execute(const MatmulJob& job) {
  // One thread: others of this process may be ranks with work of their own.
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const std::vector<float> sums = Sums(job);
  omp_set_num_threads(threads);
  const MatrixLayout &c = job.layout_c, &d = job.layout_d;
  for (int64_t j = 0; j < d.columns; ++j) {
    for (int64_t i = 0; i < d.rows; ++i) {
      const int64_t at = j * d.stride + i;
      float value = job.alpha * sums[static_cast<size_t>(j * d.rows + i)];
      if (job.beta != 0.0F) value += job.beta * Load(c.type, job.c, j * c.stride + i);
      Store(d.type, job.d, at, Finish(job, value, i, j));
    }
  }
}

}  // namespace entrain::emulated
