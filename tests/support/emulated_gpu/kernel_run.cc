#include "tests/support/emulated_gpu/kernel_run.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <span>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "tests/support/emulated_gpu/block_runner.h"
#include "tests/support/emulated_gpu/executable_symbols.h"
#include "tests/support/emulated_gpu/fault_report.h"

namespace entrain::emulated {
namespace {

bool BlocksHaveNoOrder() {
  const char* order = std::getenv("ENTRAIN_EMULATED_BLOCKS");
  if (order == nullptr) return false;
  CHECK_EQ(std::string_view(order), "unordered") << "ENTRAIN_EMULATED_BLOCKS";
  return true;
}

// A kernel's blocks in turn. One runner orders its blocks; of two, which have their own threads and shared memory, neither
// orders the other's. Only what a kernel declares as __shared__ has one place, and is then not looked at.
struct Runners {
  Runners() : all(BlocksHaveNoOrder() ? 2 : 1) {
    if (all.size() == 1) return;
    for (const std::span<char> variable : SharedVariables()) IgnoreRaces(variable);
  }
  BlockRunner& Next() {
    active = (active + 1) % all.size();
    return all[active];
  }

  std::deque<BlockRunner> all;
  size_t active = 0;
};

Runners& AllRunners() {
  static auto* runners = new Runners();  // their fibers are never unwound
  return *runners;
}

void RunBlocks(const dim3& grid) {
  gridDim = grid;
  for (unsigned int z = 0; z < grid.z; ++z) {
    for (unsigned int y = 0; y < grid.y; ++y) {
      for (unsigned int x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        AllRunners().Next().RunBlock();
      }
    }
  }
}

int64_t kernels_run = 0;

}  // namespace

BlockRunner& Runner() { return AllRunners().all[AllRunners().active]; }

void RunKernel(const KernelLaunch& launch) {
  const UnseenByThreadSanitizer unseen;
  ReportFaults();
  blockDim = launch.block;
  for (BlockRunner& runner : AllRunners().all) runner.BeginKernel(launch);
  RunBlocks(launch.grid);
  for (BlockRunner& runner : AllRunners().all) runner.EndKernel();
  ++kernels_run;
}

void SetSeed(uint32_t seed) {
  for (BlockRunner& runner : AllRunners().all) runner.SetSeed(seed);
}

int64_t KernelsRun() { return kernels_run; }

std::string WhereInKernel() {
  const KernelLaunch* launch = Runner().launch();
  if (launch == nullptr) return "";
  auto text = [](auto index) {
    return absl::StrCat("(", index.x, ", ", index.y, ", ", index.z, ")");
  };
  return absl::StrCat("kernel ", FunctionName(launch->kernel), ", grid ", text(launch->grid),
                      ", block ", text(blockIdx), ", thread ", text(threadIdx));
}

void FailKernel(const std::string& what) {
  std::fprintf(stderr, "emulated GPU: %s: %s\n", WhereInKernel().c_str(), what.c_str());
  std::abort();
}

bool IsShared(const void* start, size_t bytes) {
  auto within = [&](std::span<char> memory) {
    return start >= memory.data() &&
           static_cast<const char*>(start) + bytes <= memory.data() + memory.size();
  };
  if (within({Runner().dynamic_shared(), Runner().dynamic_bytes()})) return true;
  return std::ranges::any_of(SharedVariables(), within);
}

bool IsUnpublished(const void* start, size_t bytes) { return Runner().IsUnpublished(start, bytes); }

std::string DescribeShared(const void* address) {
  const char* end = Runner().dynamic_shared() + Runner().dynamic_bytes();
  const auto* byte = static_cast<const char*>(address);
  if (byte < end || byte >= end + BlockRunner::kGuardBytes) return "";
  return absl::StrCat(byte - end, " bytes past the end of the block's dynamic shared memory");
}

}  // namespace entrain::emulated
