#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/device/cuda_device.h"
#include "runtime/kernels/matmul_plans_cuda.h"
#include "runtime/kernels/matmul_tuning.h"

// A table's text:
//   entrain matmul table 2
//   NVIDIA H200, 132 multiprocessors, cuBLASLt 130000
//   <m> <n> <k> <row strides of a, b, out, addend> <dtype> <dtype of out> <transpose a> <transpose b> <bias> <accumulate> <alignment>
//     <epilogue> <algorithm in hexadecimal, or "apart">                                                  (one line a product)
namespace entrain::cuda {
namespace {

constexpr std::string_view kFormat = "entrain matmul table 2";
constexpr std::string_view kApart = "apart";
constexpr size_t kNumbers = 12;  // of a line, beside names and algorithm

struct Entry {
  MatmulProblem problem;
  std::optional<cublasLtMatmulAlgo_t> algo;  // none: apart
};

std::string PlaceOf(Context& context) {
  return absl::StrCat(context.cuda().name, ", ", context.cuda().multiprocessors,
                      " multiprocessors, cuBLASLt ", cublasLtGetVersion(),
                      MatmulPlans::Of(context).tf32() ? ", TF32" : "");
}

std::string Text(std::string_view view) { return std::string(view); }
absl::string_view View(std::string_view view) { return {view.data(), view.size()}; }

std::string Hexadecimal(const cublasLtMatmulAlgo_t& algo) {
  std::string bytes(sizeof(algo), '\0');
  std::memcpy(bytes.data(), &algo, sizeof(algo));
  return absl::BytesToHexString(bytes);
}

std::string LineOf(const MatmulProblem& p, const MatmulPlan& plan) {
  return absl::StrCat(
      absl::StrCat(p.m, " ", p.n, " ", p.k, " ", p.a_stride, " ", p.b_stride, " ", p.out_stride,
                   " ", p.addend_stride),
      absl::StrCat(" ", Text(kDTypeNames.Name(p.dtype)), " ", Text(kDTypeNames.Name(p.out_dtype))),
      absl::StrCat(" ", int{p.transpose_a}, " ", int{p.transpose_b}, " ", int{p.bias}, " ",
                   int{p.accumulate}, " ", p.alignment),
      " ", Text(kMatmulEpilogueNames.Name(p.epilogue)), " ",
      plan.algorithms.empty() ? Text(kApart) : Hexadecimal(plan.algorithms.front().algo), "\n");
}

std::optional<Entry> ParseNames(const std::vector<std::string>& words, Entry entry) {
  const auto dtype = kDTypeNames.Find(words[7]);
  const auto out_dtype = kDTypeNames.Find(words[8]);
  const auto epilogue = kMatmulEpilogueNames.Find(words[14]);
  if (!dtype || !out_dtype || !epilogue) return std::nullopt;
  entry.problem.dtype = *dtype;
  entry.problem.out_dtype = *out_dtype;
  entry.problem.epilogue = *epilogue;
  const std::string& algorithm = words[15];
  if (algorithm == kApart) {
    if (*epilogue == MatmulEpilogue::kNone) return std::nullopt;
    return entry;
  }
  const bool digits = algorithm.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!digits || algorithm.size() != 2 * sizeof(cublasLtMatmulAlgo_t)) return std::nullopt;
  std::memcpy(&entry.algo.emplace(), absl::HexStringToBytes(algorithm).data(),
              sizeof(cublasLtMatmulAlgo_t));
  return entry;
}

std::optional<Entry> Parse(const std::string& line) {
  const std::vector<std::string> words = absl::StrSplit(line, ' ');
  if (words.size() != kNumbers + 4) return std::nullopt;
  std::array<int64_t, kNumbers> numbers;
  size_t count = 0;
  for (size_t i = 0; i < words.size() - 2; ++i) {
    if (i == 7 || i == 8) continue;
    if (!absl::SimpleAtoi(words[i], &numbers[count++])) return std::nullopt;
  }
  const auto& n = numbers;
  const int64_t alignment = n[11];
  if (*std::min_element(n.begin(), n.begin() + 6) <= 0 || n[6] < 0) return std::nullopt;
  if (alignment != 2 && alignment != 4 && alignment != 8 && alignment != 16) return std::nullopt;
  return ParseNames(words, {.problem = {.m = n[0],
                                        .n = n[1],
                                        .k = n[2],
                                        .a_stride = n[3],
                                        .b_stride = n[4],
                                        .out_stride = n[5],
                                        .addend_stride = n[6],
                                        .transpose_a = n[7] != 0,
                                        .transpose_b = n[8] != 0,
                                        .bias = n[9] != 0,
                                        .accumulate = n[10] != 0,
                                        .alignment = static_cast<int>(alignment)}});
}

}  // namespace

std::string MatmulTable(Context& context) {
  std::string text = absl::StrCat(Text(kFormat), "\n", PlaceOf(context), "\n");
  for (const auto& [problem, plan] : MatmulPlans::Of(context).plans()) {
    absl::StrAppend(&text, LineOf(problem, plan));
  }
  return text;
}

absl::StatusOr<int> UseMatmulTable(Context& context, std::string_view table, int first_line) {
  // An empty line counts, and is damage.
  if (table.ends_with('\n')) table.remove_suffix(1);
  const std::vector<std::string> lines = absl::StrSplit(View(table), '\n');
  if (lines.size() < 2 || lines[0] != kFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat("not a table of matrix products of this version (\"", Text(kFormat), "\")"));
  }
  if (lines[1] != PlaceOf(context)) {
    return absl::FailedPreconditionError(
        absl::StrCat("a table of matrix products for ", lines[1], "; here is ", PlaceOf(context)));
  }
  std::vector<Entry> entries;
  for (size_t i = 2; i < lines.size(); ++i) {
    const std::optional<Entry> entry = Parse(lines[i]);
    if (!entry) {
      return absl::InvalidArgumentError(absl::StrCat("line ", first_line + static_cast<int>(i),
                                                     " describes no matrix product: ", lines[i]));
    }
    entries.push_back(*entry);
  }
  int taken = 0;
  auto& plans = MatmulPlans::Of(context);
  for (const Entry& entry : entries) {
    if (plans.Choose(entry.problem, entry.algo ? &*entry.algo : nullptr)) ++taken;
  }
  return taken;
}

MatmulKinds KindsRun(Context& context) {
  MatmulKinds kinds;
  for (const auto& [problem, plan] : MatmulPlans::Of(context).plans()) {
    kinds.all += plan.found ? 1 : 0;
    kinds.by_table += plan.found && plan.chosen ? 1 : 0;
  }
  return kinds;
}

}  // namespace entrain::cuda
