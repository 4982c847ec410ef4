// The emulated cuBLASLt against plain sums, and what it refuses, as the real one does.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/base/philox.h"
#include "runtime/device/cuda_device.h"
#include "tests/support/gpu_test.h"

namespace entrain {
namespace {

constexpr int64_t kM = 8, kN = 16, kK = 64;  // column-major: d [kM, kN], a [kM, kK], b [kK, kN]
constexpr int64_t kBytes = int64_t{1} << 16;

std::vector<float> Normal(int64_t size, uint64_t stream) {
  std::vector<float> values;
  for (int64_t i = 0; i < size; ++i)
    values.push_back(NormalAt(5, stream, static_cast<uint64_t>(i)));
  return values;
}

// One product, whose parts a test may spoil before it asks for it.
class CublasLtTest : public testing::Test {
 protected:
  void SetUp() override {
    cublasLtCreate(&handle_);
    cublasLtMatmulDescCreate(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatmulPreferenceCreate(&preference_);
    cublasLtMatrixLayoutCreate(&layout_a_, CUDA_R_32F, kM, kK, kM);
    cublasLtMatrixLayoutCreate(&layout_b_, CUDA_R_32F, kK, kN, kK);
    cublasLtMatrixLayoutCreate(&layout_d_, CUDA_R_32F, kM, kN, kM);
    Prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kBytes});
  }
  void TearDown() override {
    for (const auto layout : {layout_a_, layout_b_, layout_d_}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtMatmulDescDestroy(product_);
    cublasLtDestroy(handle_);
  }

  template <typename T>
  cublasStatus_t Prefer(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    return cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof(value));
  }
  template <typename T>
  cublasStatus_t Describe(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    return cublasLtMatmulDescSetAttribute(product_, attribute, &value, sizeof(value));
  }

  // The status, with `algorithms_` filled.
  cublasStatus_t Ask() {
    algorithms_.resize(16);
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_, product_, layout_a_, layout_b_, layout_d_,
                                       layout_d_, preference_, 16, algorithms_.data(), &count);
    algorithms_.resize(static_cast<size_t>(count));
    return status;
  }
  cublasStatus_t Multiply(const cublasLtMatmulHeuristicResult_t& algorithm,
                          size_t workspace_bytes) {
    const float alpha = 1.0F, beta = 0.0F;
    return cublasLtMatmul(handle_, product_, &alpha, a_.view().raw(), layout_a_, b_.view().raw(),
                          layout_b_, &beta, d_.view().raw(), layout_d_, d_.view().raw(), layout_d_,
                          &algorithm.algo, workspace_.data(), workspace_bytes, Gpu().cuda().stream);
  }
  std::vector<float> Product(const cublasLtMatmulHeuristicResult_t& algorithm) {
    d_.Fill(-1.0F);
    EXPECT_EQ(Multiply(algorithm, algorithm.workspaceSize), CUBLAS_STATUS_SUCCESS);
    return d_.Get();
  }

  GpuTensor a_{DType::kF32, {kK, kM}, Normal(kK* kM, 1)};
  GpuTensor b_{DType::kF32, {kN, kK}, Normal(kN* kK, 2)};
  GpuTensor d_{DType::kF32, {kN, kM}};
  Buffer workspace_{DeviceKind::kCuda, kBytes};
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatrixLayout_t layout_a_ = nullptr, layout_b_ = nullptr, layout_d_ = nullptr;
  std::vector<cublasLtMatmulHeuristicResult_t> algorithms_;
};

TEST_F(CublasLtTest, EveryAlgorithmMultiplies) {
  const std::vector<float> a = a_.Get(), b = b_.Get();
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  EXPECT_GE(algorithms_.size(), 5);
  for (const auto& algorithm : algorithms_) {
    const std::vector<float> d = Product(algorithm);
    for (int64_t j = 0; j < kN; ++j) {
      for (int64_t i = 0; i < kM; ++i) {
        double sum = 0.0;
        for (int64_t k = 0; k < kK; ++k) {
          sum += double{a[static_cast<size_t>(k * kM + i)]} * b[static_cast<size_t>(j * kK + k)];
        }
        ASSERT_NEAR(d[static_cast<size_t>(j * kM + i)], sum, 1e-4);
      }
    }
  }
}

TEST_F(CublasLtTest, RunsInTheOrderOfItsStream) {
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  const std::vector<float> before = Product(algorithms_.back());
  // Issued, not run: what is written to the stream afterwards must not be seen, what was before must.
  FillBytes(Gpu(), a_.view().raw(), 0, a_.view().bytes());
  ASSERT_EQ(Multiply(algorithms_.back(), 0), CUBLAS_STATUS_SUCCESS);
  FillBytes(Gpu(), b_.view().raw(), 0xff, b_.view().bytes());
  EXPECT_EQ(d_.Get(), std::vector<float>(before.size(), 0.0F));
}

TEST_F(CublasLtTest, InPlaceSumsAreOfferedToThePermissiveAndDiffer) {
  Prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_INPLACE});
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  int changing = 0;
  for (const auto& algorithm : algorithms_) {
    const std::vector<float> first = Product(algorithm);
    if (Product(algorithm) != first) ++changing;
  }
  EXPECT_EQ(changing, 1);
  Prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  for (const auto& algorithm : algorithms_) {
    const std::vector<float> first = Product(algorithm);
    EXPECT_EQ(Product(algorithm), first);
  }
}

TEST_F(CublasLtTest, SplitsOnlyWithAWorkspace) {
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  for (const auto& algorithm : algorithms_) {
    if (algorithm.workspaceSize == 0) continue;
    EXPECT_EQ(Multiply(algorithm, algorithm.workspaceSize - 1), CUBLAS_STATUS_INVALID_VALUE);
  }
  Prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{0});
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  for (const auto& algorithm : algorithms_) EXPECT_EQ(algorithm.workspaceSize, 0);
}

TEST_F(CublasLtTest, PartsMayBeSet) {
  Prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  auto algorithm = algorithms_.front();
  const float waves = algorithm.wavesCount;
  EXPECT_GT(waves, 0.0F);
  const std::vector<float> whole = Product(algorithm);
  const auto set = [&](cublasLtMatmulAlgoConfigAttributes_t attribute, auto value) {
    return cublasLtMatmulAlgoConfigSetAttribute(&algorithm.algo, attribute, &value, sizeof(value));
  };
  const auto check = [&] {
    return cublasLtMatmulAlgoCheck(handle_, product_, layout_a_, layout_b_, layout_d_, layout_d_,
                                   &algorithm.algo, &algorithm);
  };
  int32_t supported = 0;
  size_t written = 0;
  EXPECT_EQ(cublasLtMatmulAlgoCapGetAttribute(&algorithm.algo, CUBLASLT_ALGO_CAP_SPLITK_SUPPORT,
                                              &supported, sizeof(supported), &written),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(supported, 1);
  ASSERT_EQ(set(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, int32_t{5}), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(check(), CUBLAS_STATUS_NOT_SUPPORTED) << "parts that do not meet";
  ASSERT_EQ(
      set(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}),
      CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(check(), CUBLAS_STATUS_SUCCESS);
  EXPECT_FLOAT_EQ(algorithm.wavesCount, 5 * waves);
  EXPECT_EQ(algorithm.workspaceSize, size_t{5} * kM * kN * sizeof(float));
  const std::vector<float> parts = Product(algorithm);
  EXPECT_NE(parts, whole);
  EXPECT_EQ(Product(algorithm), parts);
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(parts[i], whole[i], 1e-5);
  ASSERT_EQ(set(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, int32_t{kK + 1}), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(check(), CUBLAS_STATUS_NOT_SUPPORTED) << "more parts than terms";
  EXPECT_EQ(set(CUBLASLT_ALGO_CONFIG_TILE_ID, uint32_t{1}), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(set(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, char{1}), CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(CublasLtTest, HoldsToTheAlignmentThatWasPromised) {
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  const auto fast = algorithms_.front();
  Prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t{4});
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(algorithms_.size(), 1);
  const float alpha = 1.0F, beta = 0.0F;
  const auto* shifted = static_cast<const float*>(a_.view().raw()) + 1;
  const auto multiply = [&](const cublasLtMatmulAlgo_t& algo) {
    return cublasLtMatmul(handle_, product_, &alpha, shifted, layout_a_, b_.view().raw(), layout_b_,
                          &beta, d_.view().raw(), layout_d_, d_.view().raw(), layout_d_, &algo,
                          workspace_.data(), kBytes, Gpu().cuda().stream);
  };
  EXPECT_EQ(multiply(fast.algo), CUBLAS_STATUS_INVALID_VALUE);
  // The last element lies behind the allocation.
  EXPECT_EQ(multiply(algorithms_.front().algo), CUBLAS_STATUS_EXECUTION_FAILED);
}

// C apart from D, with a stride of its own; one matrix under two strides is refused.
TEST_F(CublasLtTest, AddsAnotherMatrix) {
  constexpr int64_t kStride = kM + 4;
  const GpuTensor c(DType::kF32, {kN, kStride}, Normal(kN * kStride, 3));
  cublasLtMatrixLayout_t layout_c = nullptr;
  cublasLtMatrixLayoutCreate(&layout_c, CUDA_R_32F, kM, kN, kStride);
  ASSERT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  const std::vector<float> product = Product(algorithms_.back()), addend = c.Get();
  const float alpha = 1.0F, beta = 1.0F;
  const auto multiply = [&](const void* from) {
    return cublasLtMatmul(handle_, product_, &alpha, a_.view().raw(), layout_a_, b_.view().raw(),
                          layout_b_, &beta, from, layout_c, d_.view().raw(), layout_d_,
                          &algorithms_.back().algo, nullptr, 0, Gpu().cuda().stream);
  };
  ASSERT_EQ(multiply(c.view().raw()), CUBLAS_STATUS_SUCCESS);
  const std::vector<float> sum = d_.Get();
  for (int64_t j = 0; j < kN; ++j) {
    for (int64_t i = 0; i < kM; ++i) {
      const auto at = static_cast<size_t>(j * kM + i);
      EXPECT_EQ(sum[at], product[at] + addend[static_cast<size_t>(j * kStride + i)]);
    }
  }
  EXPECT_EQ(multiply(d_.view().raw()), CUBLAS_STATUS_INVALID_VALUE);
  cublasLtMatrixLayoutDestroy(layout_c);
}

TEST_F(CublasLtTest, RefusesOperandsThatDoNotGoTogether) {
  cublasLtMatrixLayoutDestroy(layout_d_);
  cublasLtMatrixLayoutCreate(&layout_d_, CUDA_R_16BF, kM, kN, kM);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_NOT_SUPPORTED) << "bf16 from fp32";
  cublasLtMatrixLayoutDestroy(layout_d_);
  cublasLtMatrixLayoutCreate(&layout_d_, CUDA_R_32F, kM + 1, kN, kM + 1);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_INVALID_VALUE) << "other rows than a";
  cublasLtMatrixLayoutDestroy(layout_d_);
  cublasLtMatrixLayoutCreate(&layout_d_, CUDA_R_32F, kM, kN, kM - 1);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_INVALID_VALUE) << "columns that overlap";
}

TEST_F(CublasLtTest, RefusesBiasAndAuxThatDoNotFit) {
  void* const aligned = workspace_.data();
  void* const odd = static_cast<char*>(aligned) + 8;
  Describe(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_NOT_SUPPORTED) << "no bias";
  Describe(CUBLASLT_MATMUL_DESC_BIAS_POINTER, odd);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_NOT_SUPPORTED) << "bias at an odd place";
  Describe(CUBLASLT_MATMUL_DESC_BIAS_POINTER, aligned);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  Describe(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_16BF);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_NOT_SUPPORTED) << "bias of another type than d";
  Describe(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DGELU);
  Describe(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aligned);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_INVALID_VALUE) << "no stride of aux";
  Describe(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, kM + 4);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_INVALID_VALUE) << "a stride of aux that is no multiple of 8";
  Describe(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, kM);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_SUCCESS);
  Describe(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, odd);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_NOT_SUPPORTED) << "aux at an odd place";
  Describe(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BGRADA);
  EXPECT_EQ(Ask(), CUBLAS_STATUS_NOT_SUPPORTED) << "an epilogue that is not emulated";
  EXPECT_EQ(Describe(CUBLASLT_MATMUL_DESC_EPILOGUE, char{1}), CUBLAS_STATUS_INVALID_VALUE);
}

}  // namespace
}  // namespace entrain
