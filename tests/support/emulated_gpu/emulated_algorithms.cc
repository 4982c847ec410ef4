#include "tests/support/emulated_gpu/emulated_algorithms.h"

#include <algorithm>
#include <cstring>

#include "tests/support/emulated_gpu/emulated_gpu.h"

namespace entrain::emulated {
namespace {

constexpr uint64_t kMagic = 0x74614d6574616c75;  // of an algorithm's blob
static_assert(sizeof(MatmulSplit) <= sizeof(cublasLtMatmulAlgo_t));

constexpr MatmulSplit kAlgorithms[] = {
    {kMagic, 1, 4, CUBLASLT_REDUCTION_SCHEME_INPLACE, kVector},
    {kMagic, 2, 4, CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE, kVector},
    {kMagic, 3, 4, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, kVector},
    {kMagic, 4, 2, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, kVector},
    {kMagic, 5, 1, CUBLASLT_REDUCTION_SCHEME_NONE, kVector},
    {kMagic, 6, 3, CUBLASLT_REDUCTION_SCHEME_NONE, kVector},  // parts one after another
    {kMagic, 7, 1, CUBLASLT_REDUCTION_SCHEME_NONE, 1},
};

bool DimensionsAgree(const Shapes& s) {
  const bool ta = s.product.transpose_a != CUBLAS_OP_N, tb = s.product.transpose_b != CUBLAS_OP_N;
  for (const MatrixLayout* layout : {&s.a, &s.b, &s.c, &s.d}) {
    if (layout->rows <= 0 || layout->columns <= 0 || layout->stride < layout->rows) return false;
  }
  return (ta ? s.a.columns : s.a.rows) == s.m() && (tb ? s.b.rows : s.b.columns) == s.n() &&
         (tb ? s.b.columns : s.b.rows) == s.k() && s.c.rows == s.d.rows &&
         s.c.columns == s.d.columns;
}

bool TypesAgree(const Shapes& s) {
  const bool tf32 = s.product.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  if (!tf32 && s.product.compute != CUBLAS_COMPUTE_32F) return false;
  if (s.product.scale != CUDA_R_32F || (tf32 && s.a.type != CUDA_R_32F)) return false;
  if (s.a.type != s.b.type || s.c.type != s.d.type) return false;
  if (s.a.type != CUDA_R_32F && s.a.type != CUDA_R_16BF) return false;
  if (s.d.type != CUDA_R_32F && !(s.d.type == CUDA_R_16BF && s.a.type == CUDA_R_16BF)) return false;
  const int32_t bias_type = s.product.bias_type;
  return !s.product.has_bias() || bias_type == -1 || bias_type == s.d.type;
}

}  // namespace

std::span<const MatmulSplit> Algorithms() { return kAlgorithms; }

MatmulSplit SplitOf(const cublasLtMatmulAlgo_t* algo) {
  MatmulSplit algorithm;
  std::memcpy(&algorithm, algo, sizeof(algorithm));
  return algorithm;
}

bool CanBeCut(const MatmulSplit& algorithm) {
  return algorithm.id != 1 && algorithm.id != 6 && algorithm.id != 7;
}

bool Known(const MatmulSplit& algorithm) {
  for (const MatmulSplit& known : kAlgorithms) {
    if (algorithm.magic != kMagic || algorithm.id != known.id) continue;
    if (algorithm.alignment != known.alignment) return false;
    return CanBeCut(algorithm) ||
           (algorithm.parts == known.parts && algorithm.scheme == known.scheme);
  }
  return false;
}

bool WellConfigured(const MatmulSplit& algorithm, int64_t terms) {
  if (!CanBeCut(algorithm)) return true;
  const auto schemes = {CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE,
                        CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE};
  if (algorithm.parts == 1) return algorithm.scheme == CUBLASLT_REDUCTION_SCHEME_NONE;
  return algorithm.parts > 1 && algorithm.parts <= terms &&
         std::ranges::count(schemes, algorithm.scheme) == 1;
}

uint64_t WorkspaceOf(const MatmulSplit& algorithm, const Shapes& shapes) {
  if (algorithm.scheme == CUBLASLT_REDUCTION_SCHEME_NONE) return 0;
  const auto sums = static_cast<uint64_t>(shapes.m() * shapes.n());
  return static_cast<uint64_t>(algorithm.parts) * sums * sizeof(float);
}

float WavesOf(const MatmulSplit& algorithm, const Shapes& shapes) {
  constexpr int64_t kTile = 128;
  const auto tiles = [](int64_t sums) { return (sums + kTile - 1) / kTile; };
  const bool apart = algorithm.scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
  const int64_t blocks = tiles(shapes.m()) * tiles(shapes.n()) * (apart ? algorithm.parts : 1);
  return static_cast<float>(blocks) / static_cast<float>(kMultiprocessors);
}

cublasStatus_t Examine(const Shapes& s) {
  if (!DimensionsAgree(s)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!TypesAgree(s)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const uint32_t epilogue = s.product.epilogue;
  const auto known = {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU_AUX,
                      CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU};
  if (std::ranges::count(known, epilogue) == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (s.product.has_bias() && (s.product.bias == nullptr || !Aligned(s.product.bias, kVector))) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (!s.product.has_aux()) return CUBLAS_STATUS_SUCCESS;
  if (s.product.aux == nullptr || s.product.aux_stride < s.m() || s.product.aux_stride % 8 != 0) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  return Aligned(s.product.aux, kVector) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

bool StridesFit(const MatmulSplit& algorithm, const Shapes& s) {
  for (const MatrixLayout* layout : {&s.a, &s.b, &s.c, &s.d}) {
    const auto bytes = static_cast<uint64_t>(layout->stride * layout->element_bytes());
    if (bytes % algorithm.alignment != 0) return false;
  }
  return true;
}

}  // namespace entrain::emulated
