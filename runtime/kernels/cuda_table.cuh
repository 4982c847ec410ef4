// CudaTable: what one launch over many tensors reads of each, in the device's memory.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDA_TABLE_H_
#define ENTRAIN_RUNTIME_KERNELS_CUDA_TABLE_H_

#include <cstdint>
#include <vector>

#include "runtime/device/device_memory.h"
#include "runtime/kernels/cuda_scratch.h"

namespace entrain::cuda {

// Entry has ==. Ops hold one in the context's cache: tensors of a model are the same from step to step.
template <typename Entry>
class CudaTable {
 public:
  // These entries on the device. Copied, for which the host waits, when they are not those of the last call.
  const Entry* Put(Context& context, std::vector<Entry> entries) {
    if (device_ == nullptr || entries != host_) {
      const auto count = static_cast<int64_t>(entries.size());
      device_ = memory_.Take<Entry>(count);
      CopyToDevice(context, entries.data(), device_, count * static_cast<int64_t>(sizeof(Entry)));
      host_ = std::move(entries);
    }
    return device_;
  }

 private:
  std::vector<Entry> host_;
  CudaScratch memory_;
  Entry* device_ = nullptr;
};

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_TABLE_H_
