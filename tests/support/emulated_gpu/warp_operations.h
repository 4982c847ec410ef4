// What the tensor-core unit, the shuffle network and the asynchronous copy unit do.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_WARP_OPERATIONS_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_WARP_OPERATIONS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
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
  // What was waited for may be read by products.
  void Publish() { unpublished_.clear(); }
  // Whether some of these bytes were waited for, but not published.
  bool Hides(const void* start, size_t bytes) const;
  void Clear();

 private:
  void Forget();

  struct Copy {
    void* shared;
    const void* global;
    bool valid;
  };
  std::vector<Copy> copies_;    // under way, in order
  std::vector<size_t> groups_;  // where each group ends among them
  size_t first_group_ = 0;      // that is under way
  size_t first_copy_ = 0;
  std::vector<void*> unpublished_;
};

// A thread's part in asynchronous products of its warpgroup.
class AsyncProducts {
 public:
  void Begin(float* c, const uint32_t* a, uint64_t b, bool row_major, bool accumulate);
  void Commit();
  // All lanes of the warp must call, with the same products under way.
  void Wait(int pending);
  void Clear();

 private:
  static constexpr size_t kSums = 32;  // that a thread has of a product
  using Sums = std::array<float, kSums>;
  struct Product {
    float* c;
    const uint32_t* a;
    std::array<uint32_t, 4> a_at_first;
    uint64_t b;
    bool row_major;
    bool accumulate;
  };

  void Perform(const Product& product);

  std::vector<Product> products_;  // under way, in order
  std::vector<size_t> groups_;     // where each group ends among them, less what is done
  std::map<float*, Sums> sums_;    // of what is under way
};

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_WARP_OPERATIONS_H_
