// GradientBuckets: sums the gradients of a ParamSet over dp while the backward still runs.
//
// The flat gradient buffer is cut into buckets of equal size. A bucket's reduction begins as soon as its last gradient is
// complete, and moves on whenever the communicator is polled. Every rank gets the same bits; whatever the buckets where sums
// are made in rank order, which NCCL does not do in fp32. Gradients that each tp rank has a part of are summed over tp before.
#ifndef ENTRAIN_PARALLEL_GRADIENT_BUCKETS_H_
#define ENTRAIN_PARALLEL_GRADIENT_BUCKETS_H_

#include <cstdint>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/param_set.h"
#include "parallel/tensor_parallel.h"

namespace entrain {

class GradientBuckets {
 public:
  static constexpr int64_t kMaxBuckets = 500;

  struct Options {
    int64_t bucket_bytes = 0;  // more where that makes more than kMaxBuckets
    DType wire =
        DType::kF32;  // what travels, f32 or bf16 (then summed in fp32 and rounded once more)
    // One range of the flat buffer a dp rank: it gets the sums there alone, by reduce-scatter. Empty: every rank gets all.
    std::vector<ElementRange> owned;
  };
  // params and dp, which is for memory of their device, must outlive this.
  GradientBuckets(const ParamSet& params, Communicator& dp, Options options);
  // Memory for what travels in bf16.
  static int64_t BytesNeeded(const ParamSet& params, int dp, DType wire);

  // A step begins: nothing is complete.
  void BeginStep();
  // Sums over tp what is partial among these elements of the flat buffer, before it is used or completed.
  void SumPartial(const TensorParallel& tp, ElementRange range) const;
  // The gradients of these elements are final on this rank. Each element once a step, in any order.
  void Complete(Context& context, ElementRange range);
  // Completes what is left and waits: then the flat gradient is the sum over dp, where this rank owns it.
  void Finish(Context& context);

 private:
  struct Bucket {
    ElementRange range;
    int64_t missing = 0;  // elements that are not complete
    PendingCollective pending;
  };
  void Begin(Context& context, Bucket& bucket);
  // Each rank's part of a bucket, from the bucket's first element.
  std::vector<ElementRange> OwnedWithin(const ElementRange& bucket) const;
  TensorView Gradient(const ElementRange& range) const;
  TensorView Wire(const ElementRange& range) const;

  const ParamSet& params_;
  Communicator& dp_;
  DType wire_;
  std::vector<ElementRange> owned_;
  Buffer wire_buffer_;
  std::vector<Bucket> buckets_;
  int64_t bucket_elements_;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_GRADIENT_BUCKETS_H_
