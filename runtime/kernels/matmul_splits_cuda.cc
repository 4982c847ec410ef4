#include "runtime/kernels/matmul_splits_cuda.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <optional>

namespace entrain::cuda {
namespace {

constexpr int kParts[] = {2, 3, 4, 5, 6, 7, 8, 10, 12, 16};
constexpr int64_t kLeastTerms = 512;  // of a part
constexpr double kLeastGain = 0.1;
constexpr size_t kCutAlgorithms = 4;  // the heuristics' first
constexpr size_t kFormsOfEach = 2;    // for measurement to choose from

// Of a multiprocessor in a clock. What a kernel of bf16 reaches; the data sheets' numbers are a third higher.
double FlopsOf(const MatmulProblem& problem, int capability) {
  if (problem.dtype == DType::kF32) return 256.0;
  return capability >= 90 ? 3072.0 : 1536.0;
}
constexpr double kBytes = 16.0;           // of memory
constexpr double kSecondKernel = 5000.0;  // its launch and its start

template <typename T>
std::optional<T> Capability(const cublasLtMatmulAlgo_t& algo,
                            cublasLtMatmulAlgoCapAttributes_t attribute) {
  T value = {};
  size_t written = 0;
  if (cublasLtMatmulAlgoCapGetAttribute(&algo, attribute, &value, sizeof(value), &written) !=
      CUBLAS_STATUS_SUCCESS) {
    return std::nullopt;
  }
  return value;
}

bool CanBeCut(const cublasLtMatmulAlgo_t& algo) {
  const uint32_t schemes =
      Capability<uint32_t>(algo, CUBLASLT_ALGO_CAP_REDUCTION_SCHEME_MASK).value_or(0);
  return Capability<int32_t>(algo, CUBLASLT_ALGO_CAP_SPLITK_SUPPORT).value_or(0) != 0 &&
         (schemes & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) != 0;
}

int PartsOf(const cublasLtMatmulAlgo_t& algo) {
  int32_t parts = 1;
  size_t written = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoConfigGetAttribute(
      &algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof(parts), &written);
  return status == CUBLAS_STATUS_SUCCESS ? std::max(parts, 1) : 1;
}

// Empty where the algorithm cannot be configured so.
std::optional<cublasLtMatmulAlgo_t> WithParts(cublasLtMatmulAlgo_t algo, int32_t parts) {
  const uint32_t scheme =
      parts > 1 ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
  if (cublasLtMatmulAlgoConfigSetAttribute(&algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts,
                                           sizeof(parts)) != CUBLAS_STATUS_SUCCESS ||
      cublasLtMatmulAlgoConfigSetAttribute(&algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
                                           sizeof(scheme)) != CUBLAS_STATUS_SUCCESS) {
    return std::nullopt;
  }
  return algo;
}

bool Contains(const std::vector<MatmulAlgorithm>& algorithms, const cublasLtMatmulAlgo_t& algo) {
  return std::any_of(algorithms.begin(), algorithms.end(), [&](const MatmulAlgorithm& other) {
    return std::memcmp(&other.algo, &algo, sizeof(algo)) == 0;
  });
}

// The cut forms of one algorithm that should gain, from the best on.
std::vector<MatmulAlgorithm> FormsOf(cublasLtHandle_t handle, const MatmulProblem& problem,
                                     const MatmulPlan& plan, const SplitRule& rule,
                                     int64_t most_workspace_bytes,
                                     const cublasLtMatmulAlgo_t& algo) {
  cublasLtMatmulHeuristicResult_t result = {};
  const auto check = [&](const std::optional<cublasLtMatmulAlgo_t>& form) {
    return form && cublasLtMatmulAlgoCheck(handle, plan.product.get(), plan.b.get(), plan.a.get(),
                                           plan.out.get(), plan.out.get(), &*form,
                                           &result) == CUBLAS_STATUS_SUCCESS;
  };
  std::vector<MatmulAlgorithm> forms;
  if (!CanBeCut(algo) || !check(WithParts(algo, 1))) return forms;
  const double waves = result.wavesCount;
  if (!(waves > 0.0)) return forms;
  for (const int parts : rule.BetterThan(PartsOf(algo), problem, waves)) {
    const auto form = WithParts(algo, parts);
    if (!check(form)) continue;
    const auto bytes = static_cast<int64_t>(result.workspaceSize);
    if (bytes > most_workspace_bytes) continue;
    forms.push_back({*form, bytes});
    if (forms.size() == kFormsOfEach) break;
  }
  return forms;
}

}  // namespace

double SplitRule::Clocks(const MatmulProblem& problem, double waves, int parts) const {
  const double sums = static_cast<double>(problem.m) * static_cast<double>(problem.n);
  const double whole = 2.0 * sums * static_cast<double>(problem.k) /
                       (multiprocessors * FlopsOf(problem, capability));
  const double occupied = parts * waves;
  const double products = std::ceil(occupied) / occupied * whole;
  if (parts == 1) return products;
  const double passes = 2.0 * parts + (problem.accumulate ? 2.0 : 1.0);
  return products + passes * sums * sizeof(float) / (multiprocessors * kBytes) + kSecondKernel;
}

std::vector<int> SplitRule::BetterThan(int now, const MatmulProblem& problem, double waves) const {
  const double least = (1.0 - kLeastGain) * Clocks(problem, waves, now);
  std::vector<int> better;
  for (const int parts : kParts) {
    if (parts == now || problem.k / parts < kLeastTerms) continue;
    if (Clocks(problem, waves, parts) <= least) better.push_back(parts);
  }
  std::stable_sort(better.begin(), better.end(), [&](int a, int b) {
    return Clocks(problem, waves, a) < Clocks(problem, waves, b);
  });
  return better;
}

void AddSplits(cublasLtHandle_t handle, const MatmulProblem& problem, const MatmulPlan& plan,
               const SplitRule& rule, int64_t most_workspace_bytes,
               std::vector<MatmulAlgorithm>& algorithms) {
  // What follows a product is not for its parts.
  if (problem.bias || problem.epilogue != MatmulEpilogue::kNone) return;
  const std::vector<MatmulAlgorithm> named = algorithms;
  for (size_t i = 0; i < std::min(named.size(), kCutAlgorithms); ++i) {
    const auto forms = FormsOf(handle, problem, plan, rule, most_workspace_bytes, named[i].algo);
    for (const MatmulAlgorithm& form : forms) {
      const bool first = i == 0 && &form == &forms.front();
      if (first) {
        std::erase_if(algorithms, [&](const MatmulAlgorithm& other) {
          return std::memcmp(&other.algo, &form.algo, sizeof(form.algo)) == 0;
        });
        algorithms.insert(algorithms.begin(), form);
      } else if (!Contains(algorithms, form.algo)) {
        algorithms.push_back(form);
      }
    }
  }
}

}  // namespace entrain::cuda
