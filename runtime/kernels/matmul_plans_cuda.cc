#include "runtime/kernels/matmul_plans_cuda.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/device/cuda_device.h"
#include "runtime/kernels/matmul_splits_cuda.h"

namespace entrain::cuda {
namespace {

constexpr int kMaxAlignment = 16;
constexpr int kCandidates = 16;

void CheckCublas(cublasStatus_t status, const char* call, const MatmulProblem& problem) {
  CHECK(status == CUBLAS_STATUS_SUCCESS) << "cuBLASLt failed with " << cublasLtGetStatusName(status)
                                         << " in " << call << ", matmul " << Describe(problem);
}

cudaDataType_t TypeOf(DType dtype) { return dtype == DType::kBf16 ? CUDA_R_16BF : CUDA_R_32F; }

int AlignmentOf(const void* address) {
  const auto value = reinterpret_cast<uintptr_t>(address) | kMaxAlignment;
  return static_cast<int>(value & (~value + 1));
}

template <typename T>
void Set(const MatmulPlan& plan, cublasLtMatmulDescAttributes_t attribute, const T& value,
         const MatmulProblem& problem) {
  CheckCublas(cublasLtMatmulDescSetAttribute(plan.product.get(), attribute, &value, sizeof(value)),
              "cublasLtMatmulDescSetAttribute", problem);
}

// A row-major matrix as the column-major transpose that it is.
MatmulPlan::Layout LayoutOf(DType dtype, int64_t rows, int64_t columns, int64_t stride,
                            const MatmulProblem& problem) {
  cublasLtMatrixLayout_t layout = nullptr;
  CheckCublas(cublasLtMatrixLayoutCreate(&layout, TypeOf(dtype), static_cast<uint64_t>(columns),
                                         static_cast<uint64_t>(rows), stride),
              "cublasLtMatrixLayoutCreate", problem);
  return MatmulPlan::Layout(layout);
}

cublasLtEpilogue_t EpilogueOf(const MatmulProblem& problem) {
  switch (problem.epilogue) {
    case MatmulEpilogue::kNone:
      return problem.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    case MatmulEpilogue::kGelu:
      return problem.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case MatmulEpilogue::kGeluGradient:
      break;
  }
  return CUBLASLT_EPILOGUE_DGELU;
}

void SetAddresses(const MatmulPlan& plan, const MatmulProblem& problem,
                  const MatmulOperands& operands) {
  if (problem.bias) Set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias, problem);
  if (problem.epilogue != MatmulEpilogue::kNone) {
    Set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, operands.aux, problem);
  }
}

class Preference {
 public:
  explicit Preference(const MatmulProblem& problem) : problem_(problem) {
    CheckCublas(cublasLtMatmulPreferenceCreate(&preference_), "cublasLtMatmulPreferenceCreate",
                problem);
  }
  ~Preference() { cublasLtMatmulPreferenceDestroy(preference_); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;

  template <typename T>
  void Set(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    CheckCublas(cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof(value)),
                "cublasLtMatmulPreferenceSetAttribute", problem_);
  }
  cublasLtMatmulPreference_t get() const { return preference_; }

 private:
  const MatmulProblem& problem_;
  cublasLtMatmulPreference_t preference_ = nullptr;
};

// What split sums may take. An A100 has fewer multiprocessors to keep busy.
int64_t MostWorkspace(const CudaDevice& device) {
  constexpr int64_t kLeastShare = 256;  // of a small device's memory
  return std::min(device.capability < 90 ? kMostMatmulWorkspace / 2 : kMostMatmulWorkspace,
                  device.memory_bytes / kLeastShare);
}

void SetPreferences(Preference& preference, const MatmulProblem& problem, int64_t workspace) {
  preference.Set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace));
  // Sums split over blocks meet in fp32, in a step of their own, in order. Not in place, where whoever is done adds; and not
  // in the type of a bf16 output, which would round each part.
  preference.Set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                 static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto operand :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    preference.Set(operand, static_cast<uint32_t>(problem.alignment));
  }
}

}  // namespace

MatmulProblem ProblemOf(const MatmulArgs& args) {
  const bool in_place = args.accumulate || args.addend.raw() == args.out.raw();
  const TensorView addend = in_place ? TensorView() : args.addend;
  return {.m = args.out.dim(0),
          .n = args.out.dim(1),
          .k = args.a.dim(args.transpose_a ? 0 : 1),
          .a_stride = args.a.row_stride(),
          .b_stride = args.b.row_stride(),
          .out_stride = args.out.row_stride(),
          .addend_stride = addend ? addend.row_stride() : 0,
          .dtype = args.a.dtype(),
          .out_dtype = args.out.dtype(),
          .transpose_a = args.transpose_a,
          .transpose_b = args.transpose_b,
          .bias = static_cast<bool>(args.bias),
          .accumulate = in_place,
          .epilogue = args.epilogue,
          .alignment = std::min({AlignmentOf(args.a.raw()), AlignmentOf(args.b.raw()),
                                 AlignmentOf(args.out.raw()), AlignmentOf(addend.raw())})};
}

std::string Describe(const MatmulProblem& problem) {
  std::string text = absl::StrCat(
      problem.m, "x", problem.n, "x", problem.k, " ", std::string(kDTypeNames.Name(problem.dtype)),
      " -> ", std::string(kDTypeNames.Name(problem.out_dtype)), problem.transpose_a ? " T" : " N",
      problem.transpose_b ? "T" : "N", problem.bias ? " bias" : "",
      problem.accumulate ? " accumulate" : "", problem.addend_stride > 0 ? " addend" : "");
  if (problem.epilogue != MatmulEpilogue::kNone) {
    absl::StrAppend(&text, " ", std::string(kMatmulEpilogueNames.Name(problem.epilogue)));
  }
  return text;
}

MatmulPlans& MatmulPlans::Of(Context& context) {
  auto& plans = context.Cache<MatmulPlans>();
  if (plans.most_workspace_bytes_ == 0) {
    plans.most_workspace_bytes_ = MostWorkspace(context.cuda());
    plans.multiprocessors_ = context.cuda().multiprocessors;
    plans.capability_ = context.cuda().capability;
  }
  return plans;
}

MatmulPlans::MatmulPlans() {
  const cublasStatus_t status = cublasLtCreate(&handle_);
  CHECK(status == CUBLAS_STATUS_SUCCESS)
      << "cuBLASLt failed with " << cublasLtGetStatusName(status) << " in cublasLtCreate";
}

MatmulPlans::~MatmulPlans() { cublasLtDestroy(handle_); }

void MatmulPlans::AllowTf32() {
  CHECK(plans_.empty()) << "TF32 is for all products of a context";
  tf32_ = true;
}

MatmulPlan& MatmulPlans::Find(const MatmulProblem& problem) {
  MatmulPlan& plan = PlanOf(problem);
  plan.found = true;
  return plan;
}

MatmulPlan& MatmulPlans::PlanOf(const MatmulProblem& problem) {
  const auto [it, inserted] = plans_.try_emplace(problem);
  if (inserted) it->second = Make(problem);
  return it->second;
}

MatmulPlan MatmulPlans::Make(const MatmulProblem& problem) const {
  MatmulPlan plan;
  cublasLtMatmulDesc_t product = nullptr;
  // Products of fp32 are of fp32, unless a run asked for TF32.
  const bool tf32 = tf32_ && problem.dtype == DType::kF32;
  CheckCublas(cublasLtMatmulDescCreate(
                  &product, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
              "cublasLtMatmulDescCreate", problem);
  plan.product.reset(product);
  const auto operation = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
  Set(plan, CUBLASLT_MATMUL_DESC_TRANSA, operation(problem.transpose_b), problem);
  Set(plan, CUBLASLT_MATMUL_DESC_TRANSB, operation(problem.transpose_a), problem);
  Set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, EpilogueOf(problem), problem);
  if (problem.bias) {
    Set(plan, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, TypeOf(problem.out_dtype), problem);
  }
  if (problem.epilogue != MatmulEpilogue::kNone) {
    Set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, problem.n, problem);
  }
  const auto layout = [&](bool transpose, int64_t rows, int64_t columns, int64_t stride) {
    return LayoutOf(problem.dtype, transpose ? columns : rows, transpose ? rows : columns, stride,
                    problem);
  };
  plan.a = layout(problem.transpose_a, problem.m, problem.k, problem.a_stride);
  plan.b = layout(problem.transpose_b, problem.k, problem.n, problem.b_stride);
  plan.out = LayoutOf(problem.out_dtype, problem.m, problem.n, problem.out_stride, problem);
  if (problem.addend_stride > 0) {
    plan.addend = LayoutOf(problem.out_dtype, problem.m, problem.n, problem.addend_stride, problem);
  }
  plan.algorithms = AskForAlgorithms(problem, plan);
  return plan;
}

std::vector<MatmulAlgorithm> MatmulPlans::AskForAlgorithms(const MatmulProblem& problem,
                                                           const MatmulPlan& plan) const {
  // Addresses that are never read here: only their alignment counts.
  void* const aligned = reinterpret_cast<void*>(uintptr_t{kMaxAlignment});  // NOLINT
  SetAddresses(plan, problem, {.bias = aligned, .aux = aligned});
  Preference preference(problem);
  SetPreferences(preference, problem, most_workspace_bytes_);
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results;
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_, plan.product.get(), plan.b.get(), plan.a.get(), plan.c(), plan.out.get(),
      preference.get(), kCandidates, results.data(), &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
  CheckCublas(status, "cublasLtMatmulAlgoGetHeuristic", problem);
  std::vector<MatmulAlgorithm> algorithms;
  for (int i = 0; i < count; ++i) {
    const auto& result = results[static_cast<size_t>(i)];
    if (result.state != CUBLAS_STATUS_SUCCESS) continue;
    algorithms.push_back({result.algo, static_cast<int64_t>(result.workspaceSize)});
  }
  AddSplits(handle_, problem, plan, {multiprocessors_, capability_}, most_workspace_bytes_,
            algorithms);
  return algorithms;
}

void* MatmulPlans::Workspace(int64_t bytes) {
  if (bytes > workspace_.bytes()) workspace_ = Buffer(DeviceKind::kCuda, most_workspace_bytes_);
  return workspace_.data();
}

void MatmulPlans::Run(Context& context, const MatmulProblem& problem,
                      const MatmulOperands& operands) {
  MatmulPlan& plan = Find(problem);
  CHECK(!plan.algorithms.empty()) << "cuBLASLt has no algorithm for matmul " << Describe(problem)
                                  << ", alignment " << problem.alignment << ", row strides "
                                  << problem.a_stride << ", " << problem.b_stride << ", "
                                  << problem.out_stride << " and " << problem.addend_stride;
  cublasStatus_t status = Try(context, problem, plan, plan.algorithms.front(), operands);
  // Forms that the heuristics did not name have only been checked, which does not see everything. Nothing was issued then.
  while ((status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) &&
         plan.algorithms.size() > 1) {
    plan.algorithms.erase(plan.algorithms.begin());
    status = Try(context, problem, plan, plan.algorithms.front(), operands);
  }
  CheckCublas(status, "cublasLtMatmul", problem);
}

cublasStatus_t MatmulPlans::Try(Context& context, const MatmulProblem& problem,
                                const MatmulPlan& plan, const MatmulAlgorithm& algorithm,
                                const MatmulOperands& operands) {
  SetAddresses(plan, problem, operands);
  const float alpha = 1.0F;
  const bool apart = problem.addend_stride > 0;
  const float beta = problem.accumulate || apart ? 1.0F : 0.0F;
  return cublasLtMatmul(handle_, plan.product.get(), &alpha, operands.b, plan.b.get(), operands.a,
                        plan.a.get(), &beta, apart ? operands.addend : operands.out, plan.c(),
                        operands.out, plan.out.get(), &algorithm.algo,
                        Workspace(algorithm.workspace_bytes),
                        static_cast<size_t>(algorithm.workspace_bytes), context.cuda().stream);
}

bool MatmulPlans::Choose(const MatmulProblem& problem, const cublasLtMatmulAlgo_t* algo) {
  MatmulPlan& plan = PlanOf(problem);
  if (algo == nullptr) {
    CHECK(problem.epilogue != MatmulEpilogue::kNone) << "no algorithm for " << Describe(problem);
    plan.algorithms.clear();
    plan.chosen = true;
    return true;
  }
  cublasLtMatmulHeuristicResult_t result;
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(handle_, plan.product.get(), plan.b.get(), plan.a.get(), plan.c(),
                              plan.out.get(), algo, &result);
  if (status != CUBLAS_STATUS_SUCCESS ||
      static_cast<int64_t>(result.workspaceSize) > most_workspace_bytes_)
    return false;
  std::erase_if(plan.algorithms, [&](const MatmulAlgorithm& other) {
    return std::memcmp(&other.algo, algo, sizeof(*algo)) == 0;
  });
  plan.algorithms.insert(plan.algorithms.begin(),
                         {*algo, static_cast<int64_t>(result.workspaceSize)});
  plan.chosen = true;
  return true;
}

}  // namespace entrain::cuda
