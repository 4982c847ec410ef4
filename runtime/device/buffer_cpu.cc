#include <sys/mman.h>

#include "runtime/base/check.h"
#include "runtime/device/buffer.h"

namespace entrain {

Buffer::Buffer(int64_t bytes) : bytes_(bytes) {
  CHECK_GE(bytes, 0);
  if (bytes == 0) return;
  data_ = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(data_ != MAP_FAILED) << "out of memory: " << bytes << " bytes asked for";
  constexpr int64_t kHugePage = int64_t{2} << 20;
  if (bytes >= 4 * kHugePage) madvise(data_, static_cast<size_t>(bytes), MADV_HUGEPAGE);
}

Buffer::~Buffer() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
}

}  // namespace entrain
