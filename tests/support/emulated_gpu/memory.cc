// Device memory and pinned host memory. Copies and fills: copies.cc.
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/emulated_gpu/device_info.h"
#include "tests/support/emulated_gpu/device_memory.h"
#include "tests/support/emulated_gpu/emulated_gpu.h"
#include "tests/support/emulated_gpu/fault_report.h"
#include "tests/support/emulated_gpu/streams.h"

namespace entrain::emulated {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 256;  // of what cudaMalloc returns
constexpr unsigned char kGuardByte = 0xa5;

size_t RoundUp(size_t bytes, size_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

// An allocation ends as near to the page after its last one as its alignment allows. That page and the one before the first are
// never accessible; what else is left of its own pages holds guard bytes.
struct Allocation {
  char* pages = nullptr;
  size_t page_bytes = 0;
  char* start = nullptr;
  size_t bytes = 0;
  int device = 0;

  char* end() const { return start + bytes; }
  char* pages_end() const { return pages + page_bytes; }
};

// By start. Never destroyed: other static objects may still free memory at exit.
std::map<const char*, Allocation>& Allocations() {
  static auto* allocations = new std::map<const char*, Allocation>();
  return *allocations;
}

std::map<const char*, size_t>& PinnedMemory() {
  static auto* pinned = new std::map<const char*, size_t>();
  return *pinned;
}

// DeviceMemoryAccess objects alive, and one more where host code may touch device memory.
int& Accesses() {
  static int accesses = [] {
    const char* protect = std::getenv("ENTRAIN_EMULATED_PROTECT");
    return protect != nullptr && std::strcmp(protect, "0") == 0 ? 1 : 0;
  }();
  return accesses;
}

void Protect(const Allocation& allocation, int protection) {
  mprotect(allocation.pages, allocation.page_bytes, protection);
}

void ProtectAll(int protection) {
  for (const auto& [start, allocation] : Allocations()) Protect(allocation, protection);
}

const Allocation* Holding(const void* address) {
  auto after = Allocations().upper_bound(static_cast<const char*>(address));
  if (after == Allocations().begin()) return nullptr;
  const Allocation& allocation = std::prev(after)->second;
  return address < allocation.end() ? &allocation : nullptr;
}

size_t UsedBytes(int device) {
  size_t used = 0;
  for (const auto& [start, allocation] : Allocations()) {
    if (allocation.device == device) used += RoundUp(allocation.bytes, kAlignment);
  }
  return used;
}

Allocation Map(size_t bytes) {
  Allocation allocation;
  const size_t aligned = RoundUp(bytes, kAlignment);
  allocation.page_bytes = RoundUp(aligned, kPage);
  void* base = mmap(nullptr, allocation.page_bytes + 2 * kPage, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return {};
  allocation.pages = static_cast<char*>(base) + kPage;
  allocation.start = allocation.pages_end() - aligned;
  allocation.bytes = bytes;
  return allocation;
}

void CheckGuards(const Allocation& allocation) {
  auto intact = [](const char* begin, const char* end) {
    return std::all_of(begin, end,
                       [](char byte) { return static_cast<unsigned char>(byte) == kGuardByte; });
  };
  if (intact(allocation.pages, allocation.start) &&
      intact(allocation.end(), allocation.pages_end())) {
    return;
  }
  std::fprintf(stderr, "emulated GPU: something wrote just outside of an allocation of %zu bytes\n",
               allocation.bytes);
  std::abort();
}

// The allocation whose pages, or guard pages, an address is in.
const Allocation* Near(const void* address) {
  for (const auto& [start, allocation] : Allocations()) {
    if (address >= allocation.pages - kPage && address < allocation.pages_end() + kPage) {
      return &allocation;
    }
  }
  return nullptr;
}

}  // namespace

DeviceMemoryAccess::DeviceMemoryAccess() {
  if (Accesses()++ == 0) ProtectAll(PROT_READ | PROT_WRITE);
}

DeviceMemoryAccess::~DeviceMemoryAccess() {
  if (--Accesses() == 0) ProtectAll(PROT_NONE);
}

bool StartsInDeviceMemory(const void* address) { return Holding(address) != nullptr; }

bool OneAllocationHolds(const void* start, size_t bytes) {
  const Allocation* allocation = Holding(start);
  return allocation != nullptr && static_cast<const char*>(start) + bytes <= allocation->end();
}

bool IsDeviceMemory(const void* start, size_t bytes) {
  const Lock lock = TakeLock();
  return OneAllocationHolds(start, bytes);
}

bool IsNearDeviceMemory(const void* address) { return Near(address) != nullptr; }

std::string DescribeAddress(const void* address) {
  const Allocation* allocation = Near(address);
  if (allocation == nullptr) return "not in device memory";
  const auto* byte = static_cast<const char*>(address);
  const std::string of = absl::StrCat(" of an allocation of ", allocation->bytes, " bytes");
  if (byte < allocation->start) {
    return absl::StrCat(allocation->start - byte, " before the start", of);
  }
  if (byte < allocation->end()) return absl::StrCat("at byte ", byte - allocation->start, of);
  return absl::StrCat(byte - allocation->end(), " past the end", of);
}

bool PinnedHolds(const void* start, size_t bytes) {
  const auto* first = static_cast<const char*>(start);
  auto after = PinnedMemory().upper_bound(first);
  if (after == PinnedMemory().begin()) return false;
  const auto& [begin, size] = *std::prev(after);
  return first + bytes <= begin + size;
}

bool IsPinnedMemory(const void* start, size_t bytes) {
  const Lock lock = TakeLock();
  return PinnedHolds(start, bytes);
}

}  // namespace entrain::emulated

// ---- the runtime's calls ----

namespace {

using namespace entrain::emulated;  // NOLINT

// Page-locked memory is never reached by the emulator's own checks: a plain mapping does.
cudaError_t AllocatePinned(void** memory, size_t bytes) {
  const Lock lock = TakeLock();
  *memory = std::aligned_alloc(kPage, RoundUp(std::max<size_t>(bytes, 1), kPage));
  if (*memory == nullptr) return Result(cudaErrorMemoryAllocation);
  std::memset(*memory, 0xff, bytes);
  PinnedMemory()[static_cast<const char*>(*memory)] = bytes;
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const Lock lock = TakeLock();
  *memory = nullptr;
  const cudaError_t error = CheckCapture(nullptr);
  if (error != cudaSuccess) return Result(error);
  if (bytes == 0) return cudaSuccess;
  ReportFaults();
  int device = 0;
  cudaGetDevice(&device);
  if (bytes > TotalMemory() - UsedBytes(device)) return Result(cudaErrorMemoryAllocation);
  Allocation allocation = Map(bytes);
  if (allocation.start == nullptr) return Result(cudaErrorMemoryAllocation);
  allocation.device = device;
  Protect(allocation, PROT_READ | PROT_WRITE);
  std::memset(allocation.pages, kGuardByte, allocation.page_bytes);
  std::memset(allocation.start, 0xff, bytes);
  if (Accesses() == 0) Protect(allocation, PROT_NONE);  // else another thread's work may run next
  Allocations()[allocation.start] = allocation;
  *memory = allocation.start;
  return cudaSuccess;
}

// Waits for all work, as it does on a device.
cudaError_t cudaFree(void* memory) {
  Lock lock = TakeLock();
  const cudaError_t error = CheckCapture(nullptr);
  if (error != cudaSuccess) return Result(error);
  if (memory == nullptr) return cudaSuccess;
  RunAll(lock);
  const auto found = Allocations().find(static_cast<const char*>(memory));
  if (found == Allocations().end()) return Result(cudaErrorInvalidValue);
  const Allocation& allocation = found->second;
  Protect(allocation, PROT_READ | PROT_WRITE);
  CheckGuards(allocation);
  munmap(allocation.pages - kPage, allocation.page_bytes + 2 * kPage);
  Allocations().erase(found);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const Lock lock = TakeLock();
  int device = 0;
  cudaGetDevice(&device);
  *total = TotalMemory();
  *free = *total - UsedBytes(device);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned int /*flags*/) {
  return AllocatePinned(memory, bytes);
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) { return AllocatePinned(memory, bytes); }

cudaError_t cudaFreeHost(void* memory) {
  Lock lock = TakeLock();
  if (memory == nullptr) return cudaSuccess;
  if (PinnedMemory().count(static_cast<const char*>(memory)) == 0) {
    return Result(cudaErrorInvalidValue);
  }
  RunAll(lock);
  PinnedMemory().erase(static_cast<const char*>(memory));
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaHostRegister(void* memory, size_t bytes, unsigned int /*flags*/) {
  const Lock lock = TakeLock();
  const bool added = PinnedMemory().emplace(static_cast<const char*>(memory), bytes).second;
  return Result(added ? cudaSuccess : cudaErrorHostMemoryAlreadyRegistered);
}

cudaError_t cudaHostUnregister(void* memory) {
  Lock lock = TakeLock();
  RunAll(lock);
  const size_t erased = PinnedMemory().erase(static_cast<const char*>(memory));
  return Result(erased == 1 ? cudaSuccess : cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  const Lock lock = TakeLock();
  *attributes = {};
  const Allocation* allocation = Holding(address);
  const bool pinned = allocation == nullptr && PinnedHolds(address, 1);
  attributes->type = allocation != nullptr ? cudaMemoryTypeDevice
                     : pinned              ? cudaMemoryTypeHost
                                           : cudaMemoryTypeUnregistered;
  attributes->device = allocation != nullptr ? allocation->device : 0;
  attributes->devicePointer =
      allocation != nullptr || pinned ? const_cast<void*>(address) : nullptr;
  attributes->hostPointer = allocation == nullptr ? const_cast<void*>(address) : nullptr;
  return cudaSuccess;
}
