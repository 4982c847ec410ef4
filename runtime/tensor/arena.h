// Arena: memory for activations, planned before it is taken.
//
// The same code that lays out a model's activations runs twice: on a measuring arena, which only counts (that is what
// --dry-run prints), then on one that owns exactly that much. So the prediction cannot drift from the allocation.
#ifndef ENTRAIN_RUNTIME_TENSOR_ARENA_H_
#define ENTRAIN_RUNTIME_TENSOR_ARENA_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/device/buffer.h"
#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

class Arena {
 public:
  // Counts only: views have the right shape and no memory.
  Arena() = default;
  // Owns `bytes` of the context's device; allocating more is a CHECK failure that names the tensor. The context must outlive it.
  Arena(Context& context, int64_t bytes)
      : context_(&context), buffer_(context.device(), bytes), owns_(true) {}

  // A dense tensor, aligned to Buffer::kAlignment, zero at first.
  TensorView Allocate(std::string_view name, DType dtype, std::initializer_list<int64_t> dims);

  bool measuring() const { return !owns_; }
  int64_t used_bytes() const { return used_; }
  int64_t peak_bytes() const { return peak_; }

  struct Entry {
    std::string name;
    int64_t bytes;
  };
  // A measuring arena's allocations, in order, freed scopes included.
  const std::vector<Entry>& entries() const { return entries_; }

  // Gives back, at its end, all that was allocated since its beginning. Debug builds fill that memory with NaN.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), mark_(arena.used_) {}
    ~Scope() { arena_.Release(mark_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    int64_t mark_;
  };

 private:
  void Release(int64_t mark);

  Context* context_ = nullptr;
  Buffer buffer_;
  bool owns_ = false;
  int64_t used_ = 0;
  int64_t peak_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_TENSOR_ARENA_H_
