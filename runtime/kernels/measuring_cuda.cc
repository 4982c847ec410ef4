#include "runtime/kernels/measuring_cuda.h"

#include "runtime/base/philox.h"
#include "runtime/device/device_memory.h"

namespace entrain::cuda {

std::vector<char> RandomPattern(DType dtype) {
  constexpr int64_t kElements = 65537;
  std::vector<char> bytes(static_cast<size_t>(kElements * SizeOf(dtype)));
  DispatchFloat(dtype, [&]<typename T>(T) {
    auto* elements = reinterpret_cast<T*>(bytes.data());
    for (int64_t i = 0; i < kElements; ++i) {
      elements[i] = T(NormalAt(1, 0, static_cast<uint64_t>(i)));
    }
  });
  return bytes;
}

void FillWithPattern(Context& context, void* to, int64_t bytes, const std::vector<char>& pattern) {
  char* const place = static_cast<char*>(to);
  int64_t done = std::min(bytes, static_cast<int64_t>(pattern.size()));
  CopyToDevice(context, pattern.data(), place, done);
  while (done < bytes) {
    const int64_t count = std::min(done, bytes - done);
    CopyOnDevice(context, place, place + done, count);
    done += count;
  }
}

}  // namespace entrain::cuda
