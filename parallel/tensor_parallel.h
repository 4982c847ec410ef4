// TensorParallel: what the layers of one model share that several ranks compute together.
//
// A matrix is cut over the ranks by columns, or by rows; then each rank's product is a part of a sum. The residual stream
// is what such sums join. It is whole on every rank or, with sequence_parallel, cut by rows, of which there are R = B·T: rank r
// holds the r-th of n consecutive ranges, as even as R allows. Layers call the same functions either way, and with one rank: a single rank is not a
// special case, its collectives have nothing to do.
//
// Sums give every rank the same bits.
#ifndef ENTRAIN_PARALLEL_TENSOR_PARALLEL_H_
#define ENTRAIN_PARALLEL_TENSOR_PARALLEL_H_

#include <cstdint>
#include <string_view>

#include "parallel/comm/communicator.h"
#include "parallel/shard_spec.h"
#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

class TensorParallel {
 public:
  // One rank alone.
  TensorParallel() = default;
  // `ranks`, for memory of the model's device, must outlive the copies of this object.
  TensorParallel(Communicator& ranks, bool sequence_parallel)
      : comm_(&ranks),
        place_{ranks.rank(), ranks.size()},
        sequence_parallel_(sequence_parallel && ranks.size() > 1) {}
  // The shapes of rank 0 of `ranks`, for plans; no collective may be called.
  static TensorParallel Planned(int ranks, bool sequence_parallel);

  const ShardPlace& place() const { return place_; }
  int rank() const { return place_.rank; }
  int size() const { return place_.ranks; }
  bool sequence_parallel() const { return sequence_parallel_; }
  // This rank's share of a number, which must divide.
  int64_t Share(int64_t size) const;

  // ---- small tensors: reduced in place, the same bits on every rank ----
  void Sum(const TensorView& x, std::string_view what) const;
  void Max(const TensorView& x, std::string_view what) const;

  // ---- rows ----
  // Rows of the residual stream that this rank holds, of `rows` in all.
  int64_t StreamRows(int64_t rows) const;
  // This rank's share of the rows of a tensor that has all.
  TensorView ShareOfRows(const TensorView& all) const;
  // Every rank's share of the rows becomes every other's, in place.
  void GatherShares(const TensorView& all, std::string_view what) const;

  // The rows of `all` that the stream has here, and the rest filled in from the ranks that have them.
  TensorView StreamPart(const TensorView& all) const {
    return sequence_parallel_ ? ShareOfRows(all) : all;
  }
  void GatherStream(const TensorView& all, std::string_view what) const {
    if (sequence_parallel_) GatherShares(all, what);
  }
  // The other way about: of a tensor with the stream's rows the share that is this rank's to compute, and completed.
  TensorView ShareOfStream(const TensorView& stream) const {
    return sequence_parallel_ ? stream : ShareOfRows(stream);
  }
  void CompleteStream(const TensorView& stream, std::string_view what) const {
    if (!sequence_parallel_) GatherShares(stream, what);
  }

  // ---- sums over ranks that join the stream ----
  // Where this rank puts its part, f32 [R, C], and what it adds to it there, if anything.
  struct Part {
    TensorView out;
    TensorView addend;
  };
  // target f32 [stream rows, C] is to become the sum of all ranks' parts and of `addend`, which is like it, or target itself, or
  // empty. `scratch` f32 [R, C] is needed with sequence_parallel only; it holds the part until EndSum.
  Part BeginSum(const TensorView& target, const TensorView& addend,
                const TensorView& scratch) const;
  // The part is complete: target becomes the sum.
  void EndSum(Context& context, const TensorView& target, const TensorView& addend,
              const Part& part, std::string_view what) const;

 private:
  Communicator* comm_ = nullptr;
  ShardPlace place_;
  bool sequence_parallel_ = false;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_TENSOR_PARALLEL_H_
