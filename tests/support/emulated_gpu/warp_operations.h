// What the tensor-core unit, the shuffle network and the asynchronous copy unit do.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_WARP_OPERATIONS_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_WARP_OPERATIONS_H_

#include <cstddef>
#include <vector>

#include "tests/support/emulated_gpu/kernel_thread.h"

namespace entrain::emulated {

const char* CollectiveName(Collective collective);

// operands: one a lane, of the collective's type.
void PerformCollective(Collective collective, void* const* operands);

// The asynchronous copies of a thread.
class AsyncCopies {
 public:
  void Begin(void* shared, const void* global, bool valid);
  void Commit();
  void Wait(int pending);
  void Clear();

 private:
  struct Copy {
    void* shared;
    const void* global;
    bool valid;
  };
  std::vector<Copy> copies_;    // under way, in order
  std::vector<size_t> groups_;  // where each group ends among them
  size_t first_group_ = 0;      // that is under way
  size_t first_copy_ = 0;
};

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_WARP_OPERATIONS_H_
