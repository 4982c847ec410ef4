// The emulated cuBLASLt's arithmetic: column-major products of fp32 and bf16 and their epilogues.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_EMULATED_MATMUL_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_EMULATED_MATMUL_H_

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace entrain::emulated {

struct MatrixLayout {
  cudaDataType type;
  int64_t rows, columns, stride;

  int64_t element_bytes() const { return type == CUDA_R_16BF ? 2 : 4; }
  // From the first element to behind the last.
  int64_t bytes() const { return ((columns - 1) * stride + rows) * element_bytes(); }
};

// d = epilogue(alpha · op(a) · op(b) + beta · c)
struct MatmulDescriptor {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t transpose_a = CUBLAS_OP_N;
  cublasOperation_t transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  int32_t bias_type = -1;  // that of d
  void* aux = nullptr;
  int64_t aux_stride = 0;

  bool has_aux() const { return (epilogue & 128) != 0; }
  bool has_bias() const {
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  }
};

// How the terms of a sum are split, and how the parts meet. An algorithm's blob holds it.
struct MatmulSplit {
  uint64_t magic;
  int32_t id;
  int32_t parts;
  uint32_t scheme;
  uint32_t alignment;  // of addresses and strides, in bytes
};

struct MatmulJob {
  MatmulSplit split;
  MatmulDescriptor product;
  MatrixLayout layout_a, layout_b, layout_c, layout_d;
  const void *a, *b, *c;
  void *d, *workspace;
  float alpha, beta;
};

void Execute(const MatmulJob& job);

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_EMULATED_MATMUL_H_
