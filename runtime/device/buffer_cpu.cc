#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

#include "runtime/base/check.h"

namespace entrain::cpu {

void* TakeMemory(int64_t bytes) {
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(data != MAP_FAILED) << "out of memory: " << bytes << " bytes asked for";
  constexpr int64_t kHugePage = int64_t{2} << 20;
  if (bytes >= 4 * kHugePage) madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return data;
}

void GiveMemory(void* data, int64_t bytes) { munmap(data, static_cast<size_t>(bytes)); }

}  // namespace entrain::cpu
