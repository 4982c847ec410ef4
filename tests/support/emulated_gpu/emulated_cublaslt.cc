// cuBLASLt on the emulated GPU: the functions that we use, for column-major matrices of fp32 and bf16.
//
// It refuses what the documentation refuses: types that do not go together, addresses and strides of a lesser alignment than
// was promised, a workspace that is too small.
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tests/support/emulated_gpu/emulated_algorithms.h"
#include "tests/support/emulated_gpu/emulated_gpu.h"
#include "tests/support/emulated_gpu/emulated_matmul.h"

namespace entrain::emulated {
namespace {

// ---- descriptors ----

struct Preference {
  uint64_t workspace = 0;
  uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
};

MatrixLayout& Of(cublasLtMatrixLayout_t layout) { return *reinterpret_cast<MatrixLayout*>(layout); }
MatmulDescriptor& Of(cublasLtMatmulDesc_t product) {
  return *reinterpret_cast<MatmulDescriptor*>(product);
}
Preference& Of(cublasLtMatmulPreference_t preference) {
  return *reinterpret_cast<Preference*>(preference);
}

template <typename T>
cublasStatus_t Assign(T& to, const void* from, size_t bytes) {
  if (from == nullptr || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, from, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
cublasStatus_t Report(const T& value, void* to, size_t bytes, size_t* written) {
  if (to == nullptr || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(to, &value, sizeof(T));
  if (written != nullptr) *written = sizeof(T);
  return CUBLAS_STATUS_SUCCESS;
}

bool Offered(const MatmulSplit& algorithm, const Shapes& s, const Preference& preference) {
  for (const uint32_t promised : {preference.alignment_a, preference.alignment_b,
                                  preference.alignment_c, preference.alignment_d}) {
    if (promised < algorithm.alignment) return false;
  }
  if (algorithm.parts > s.k()) return false;
  const bool masked = (algorithm.scheme & ~preference.schemes) != 0;
  return !masked && StridesFit(algorithm, s) && WorkspaceOf(algorithm, s) <= preference.workspace;
}

// Where a real device would fault, or read what is not there.
bool OnDevice(const MatmulJob& job, uint64_t workspace_bytes) {
  const auto bytes = [](int64_t count) { return static_cast<size_t>(count); };
  const MatmulDescriptor& p = job.product;
  const MatrixLayout& d = job.layout_d;
  bool all = IsDeviceMemory(job.a, bytes(job.layout_a.bytes())) &&
             IsDeviceMemory(job.b, bytes(job.layout_b.bytes())) &&
             IsDeviceMemory(job.d, bytes(d.bytes()));
  if (job.beta != 0.0F) all = all && IsDeviceMemory(job.c, bytes(job.layout_c.bytes()));
  if (p.has_bias()) all = all && IsDeviceMemory(p.bias, bytes(d.rows * d.element_bytes()));
  if (p.has_aux()) {
    const MatrixLayout aux = {d.type, d.rows, d.columns, p.aux_stride};
    all = all && IsDeviceMemory(p.aux, bytes(aux.bytes()));
  }
  return all && (workspace_bytes == 0 || IsDeviceMemory(job.workspace, workspace_bytes));
}

bool AddressesFit(const MatmulJob& job) {
  for (const void* address : {job.a, job.b, job.c, static_cast<const void*>(job.d)}) {
    if (address == nullptr || !Aligned(address, job.split.alignment)) return false;
  }
  return true;
}

}  // namespace
}  // namespace entrain::emulated

// ---- the library's functions ----

using namespace entrain::emulated;  // NOLINT(google-build-using-namespace)

// NOLINTBEGIN(readability-identifier-naming)
extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new int);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<int*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    default:
      return "another status of cuBLAS";
  }
}

size_t cublasLtGetVersion() { return 130000; }

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t stride) {
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(
      new MatrixLayout{type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), stride});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete &Of(layout);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *product = reinterpret_cast<cublasLtMatmulDesc_t>(new MatmulDescriptor{compute, scale});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) {
  delete &Of(product);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t descriptor,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  MatmulDescriptor& product = Of(descriptor);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return Assign(product.transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return Assign(product.transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return Assign(product.epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return Assign(product.bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return Assign(product.bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return Assign(product.aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return Assign(product.aux_stride, value, bytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete &Of(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t descriptor,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  Preference& preference = Of(descriptor);
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return Assign(preference.workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return Assign(preference.schemes, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return Assign(preference.alignment_a, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return Assign(preference.alignment_b, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return Assign(preference.alignment_c, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return Assign(preference.alignment_d, value, bytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t /*handle*/,
                                              cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* count) {
  *count = 0;
  if (most <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  const Shapes shapes{Of(product), Of(a), Of(b), Of(c), Of(d)};
  const cublasStatus_t status = Examine(shapes);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const bool long_sums = shapes.k() > 2 * std::max(shapes.m(), shapes.n());
  for (const bool split : {long_sums, !long_sums}) {
    for (const MatmulSplit& algorithm : Algorithms()) {
      const bool splits = algorithm.scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
      if (splits != split || *count == most) continue;
      if (!Offered(algorithm, shapes, Of(preference))) continue;
      cublasLtMatmulHeuristicResult_t& result = results[(*count)++];
      result = {};
      std::memcpy(&result.algo, &algorithm, sizeof(algorithm));
      result.workspaceSize = WorkspaceOf(algorithm, shapes);
      result.wavesCount = WavesOf(algorithm, shapes);
      result.state = CUBLAS_STATUS_SUCCESS;
    }
  }
  return *count > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t /*handle*/, cublasLtMatmulDesc_t product,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
  const MatmulSplit algorithm = SplitOf(algo);
  if (!Known(algorithm)) return CUBLAS_STATUS_INVALID_VALUE;
  const Shapes shapes{Of(product), Of(a), Of(b), Of(c), Of(d)};
  const cublasStatus_t status = Examine(shapes);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (!StridesFit(algorithm, shapes)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!WellConfigured(algorithm, shapes.k())) return CUBLAS_STATUS_NOT_SUPPORTED;
  result->workspaceSize = WorkspaceOf(algorithm, shapes);
  result->wavesCount = WavesOf(algorithm, shapes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                 cublasLtMatmulAlgoCapAttributes_t attribute,
                                                 void* value, size_t bytes, size_t* written) {
  const MatmulSplit algorithm = SplitOf(algo);
  if (!Known(algorithm)) return CUBLAS_STATUS_INVALID_VALUE;
  const bool cut = CanBeCut(algorithm);
  switch (attribute) {
    case CUBLASLT_ALGO_CAP_SPLITK_SUPPORT:
      return Report(int32_t{cut}, value, bytes, written);
    case CUBLASLT_ALGO_CAP_REDUCTION_SCHEME_MASK:
      return Report(cut ? uint32_t{CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE |
                                   CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}
                        : algorithm.scheme,
                    value, bytes, written);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void* value, size_t bytes, size_t* written) {
  const MatmulSplit algorithm = SplitOf(algo);
  if (!Known(algorithm)) return CUBLAS_STATUS_INVALID_VALUE;
  const bool apart = algorithm.scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
  switch (attribute) {
    case CUBLASLT_ALGO_CONFIG_SPLITK_NUM:
      return Report(int32_t{apart ? algorithm.parts : 1}, value, bytes, written);
    case CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME:
      return Report(algorithm.scheme, value, bytes, written);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

// Whether what is set goes together, cublasLtMatmulAlgoCheck says.
cublasStatus_t cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t* algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  MatmulSplit algorithm = SplitOf(algo);
  if (!Known(algorithm) || !CanBeCut(algorithm)) return CUBLAS_STATUS_INVALID_VALUE;
  cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE;
  if (attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM) status = Assign(algorithm.parts, value, bytes);
  if (attribute == CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) {
    status = Assign(algorithm.scheme, value, bytes);
  }
  std::memcpy(algo, &algorithm, sizeof(algorithm));
  return status;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t layout_a,
                              const void* b, cublasLtMatrixLayout_t layout_b, const void* beta,
                              const void* c, cublasLtMatrixLayout_t layout_c, void* d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  // The library would choose one by itself, which we never want.
  if (algo == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  cublasLtMatmulHeuristicResult_t result;
  const cublasStatus_t status = cublasLtMatmulAlgoCheck(handle, product, layout_a, layout_b,
                                                        layout_c, layout_d, algo, &result);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  constexpr uint64_t kWorkspaceAlignment = 256;
  if (workspace_bytes < result.workspaceSize ||
      (result.workspaceSize > 0 && workspace == nullptr) ||
      !Aligned(workspace, kWorkspaceAlignment)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  MatmulJob job{.split = SplitOf(algo),
                .product = Of(product),
                .layout_a = Of(layout_a),
                .layout_b = Of(layout_b),
                .layout_c = Of(layout_c),
                .layout_d = Of(layout_d),
                .a = a,
                .b = b,
                .c = c,
                .d = d,
                .workspace = workspace,
                .alpha = *static_cast<const float*>(alpha),
                .beta = *static_cast<const float*>(beta)};
  if (!AddressesFit(job)) return CUBLAS_STATUS_INVALID_VALUE;
  // In place C and D are one matrix.
  if (c == d && job.layout_c.stride != job.layout_d.stride) return CUBLAS_STATUS_INVALID_VALUE;
  if (!OnDevice(job, result.workspaceSize)) return CUBLAS_STATUS_EXECUTION_FAILED;
  return Enqueue(stream, [job] { Execute(job); }) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                 : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
