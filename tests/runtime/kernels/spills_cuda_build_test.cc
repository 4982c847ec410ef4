// The kernels that were tuned keep everything in registers: reads what ptxas said when they were compiled (nvcc_report.sh).
#include <cxxabi.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace entrain {
namespace {

struct CompiledKernel {
  std::string file;          // "attention_forward_cuda.cu"
  std::string name;          // demangled
  std::string architecture;  // "sm_90a"
  int spilled_bytes = -1;    // stores and loads; −1: ptxas did not say
};

std::string Demangled(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string demangled = status == 0 ? text : name;
  std::free(text);
  return demangled;
}

// A report is, for each kernel: "Compiling entry function 'name' for 'sm_90a'", then a line about the kernel itself and maybe
// such lines about functions that it calls: "8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads".
std::vector<CompiledKernel> KernelsOf(const std::string& file, std::istream& report) {
  static const std::regex kEntry("Compiling entry function '([^']*)' for '([^']*)'");
  static const std::regex kSpills("([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads");
  std::vector<CompiledKernel> kernels;
  std::smatch match;
  for (std::string line; std::getline(report, line);) {
    if (std::regex_search(line, match, kEntry)) {
      kernels.push_back({file, Demangled(match[1]), match[2]});
    } else if (std::regex_search(line, match, kSpills) && !kernels.empty()) {
      int& spilled = kernels.back().spilled_bytes;
      spilled = std::max(spilled, 0) + std::stoi(match[1]) + std::stoi(match[2]);
    }
  }
  return kernels;
}

std::vector<CompiledKernel> CompiledKernels() {
  constexpr char kReport[] = ".cu.o.ptxas";
  std::vector<CompiledKernel> kernels;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(ENTRAIN_PTXAS_REPORTS)) {
    const std::string name = entry.path().filename().string();
    const size_t at = name.rfind(kReport);
    if (at == std::string::npos || at + sizeof(kReport) - 1 != name.size()) continue;
    std::ifstream report(entry.path());
    for (CompiledKernel& kernel : KernelsOf(name.substr(0, at) + ".cu", report)) {
      kernels.push_back(std::move(kernel));
    }
  }
  return kernels;
}

struct TunedKernel {
  const char* what;
  const char* file;
  const char* name;  // what the demangled name must have in it
};

void PrintTo(const TunedKernel& kernel, std::ostream* out) { *out << kernel.what; }

class TunedKernelTest : public ::testing::TestWithParam<TunedKernel> {};

TEST_P(TunedKernelTest, SpillsNoRegister) {
  std::set<std::string> architectures;
  for (const CompiledKernel& kernel : CompiledKernels()) {
    if (kernel.file != GetParam().file) continue;
    if (!std::regex_search(kernel.name, std::regex(GetParam().name))) continue;
    architectures.insert(kernel.architecture);
    EXPECT_EQ(kernel.spilled_bytes, 0) << kernel.name << " for " << kernel.architecture;
  }
  EXPECT_EQ(architectures, (std::set<std::string>{"sm_80", "sm_90a"}))
      << "the kernel was found for both";
}

INSTANTIATE_TEST_SUITE_P(
    Tuned, TunedKernelTest,
    ::testing::Values(
        TunedKernel{"AttentionForward", "attention_forward_cuda.cu", "ForwardKernel<64[^0-9]"},
        TunedKernel{"AttentionKeyGradient", "attention_backward_cuda.cu",
                    "KeyGradientKernel<64[^0-9]"},
        TunedKernel{"AttentionQueryGradient", "attention_backward_cuda.cu",
                    "QueryGradientKernel<64[^0-9]"},
        TunedKernel{"AttentionWarpgroupForward", "attention_warpgroup_forward_cuda.cu", "Kernel"},
        TunedKernel{"AttentionWarpgroupGradients", "attention_warpgroup_backward_cuda.cu",
                    "Kernel"},
        TunedKernel{"AttentionShortForward", "attention_short_forward_cuda.cu",
                    "ShortForwardKernel<"},
        TunedKernel{"AttentionShortGradient", "attention_short_backward_cuda.cu",
                    "ShortGradientKernel<"},
        TunedKernel{"AttentionRowTerms", "attention_rows_cuda.cu", "Kernel"},
        TunedKernel{"LayerNorm", "layernorm_cuda.cu", "Kernel"},
        TunedKernel{"ResidualNorm", "residual_norm_cuda.cu", "Kernel"},
        TunedKernel{"LayerNormBackward", "layernorm_backward_cuda.cu", "BackwardKernel<"},
        TunedKernel{"ColumnSum", "reduce_cuda.cu", "SumRowsKernel<"},
        TunedKernel{"CrossEntropy", "cross_entropy_cuda.cu", "Kernel"},
        TunedKernel{"WholeCrossEntropy", "cross_entropy_whole_cuda.cu", "Kernel"},
        TunedKernel{"AdamW", "adamw_cuda.cu", "Kernel"}),
    [](const auto& info) { return info.param.what; });

TEST(PtxasReport, SpillsOfAKernelAreFound) {
  std::istringstream report(R"(ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN1a6KernelILi64EEEvv' for 'sm_80'
ptxas info    : Function properties for _ZN1a6KernelILi64EEEvv
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers
ptxas info    : Compiling entry function 'plain' for 'sm_90a'
ptxas info    : Function properties for plain
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
)");
  const std::vector<CompiledKernel> kernels = KernelsOf("x.cu", report);
  ASSERT_EQ(kernels.size(), 2U);
  EXPECT_EQ(kernels[0].name, "void a::Kernel<64>()");
  EXPECT_EQ(kernels[0].architecture, "sm_80");
  EXPECT_EQ(kernels[0].spilled_bytes, 20);
  EXPECT_EQ(kernels[1].spilled_bytes, 0);
}

}  // namespace
}  // namespace entrain
