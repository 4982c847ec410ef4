// CudaTable: what one launch over many tensors reads of each, in the device's memory.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDA_TABLE_CUH_
#define ENTRAIN_RUNTIME_KERNELS_CUDA_TABLE_CUH_

#include <cstdint>
#include <utility>
#include <vector>

#include "runtime/device/device_memory.h"
#include "runtime/kernels/cuda_scratch.h"

namespace entrain::cuda {

// Entry has ==. Ops hold one in the context's cache: tensors of a model are the same from step to step.
template <typename Entry>
class CudaTable {
 public:
  // These entries on the device. Copied, for which the host waits, when they are not those of the last call; then to other memory,
  // so that an OpGraph which recorded the old ones is recorded anew.
  const Entry* Put(Context& context, std::vector<Entry> entries) {
    if (device_ == nullptr || entries != host_) {
      const auto count = static_cast<int64_t>(entries.size());
      memory_ = CudaScratch();
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

// Of a table whose entries hold consecutive blocks of a launch, `first` the first of each: the entry that block `block` is of.
template <typename Entry>
__device__ __forceinline__ const Entry& EntryOfBlock(const Entry* table, int count,
                                                     int64_t Entry::*first, int64_t block) {
  int low = 0, high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (table[middle].*first <= block) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return table[low];
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_TABLE_CUH_
