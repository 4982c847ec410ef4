// AdamWOptimizer: moments of a ParamSet, the update, and clipping by the global norm.
//
// With ZeRO stage 1 the moments are cut over dp: a rank holds and updates those of its range of the flat order, and what kernels
// read, bf16 copies or values, is gathered after the update. Without it every rank's range is everything.
#ifndef ENTRAIN_PARALLEL_ADAMW_OPTIMIZER_H_
#define ENTRAIN_PARALLEL_ADAMW_OPTIMIZER_H_

#include <cstdint>
#include <vector>

#include "parallel/owned_ranges.h"
#include "parallel/param_set.h"
#include "parallel/tensor_parallel.h"
#include "runtime/kernels/adamw.h"

namespace entrain {

struct AdamWHyperparameters {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;  // of matrices only
  double clip = 0.0;          // 0: off
};

class AdamWOptimizer {
 public:
  // `params` must be allocated for training; it and dp, which is for memory of their device, must outlive the optimizer. zero:
  // the stage, 0 or 1.
  AdamWOptimizer(const ParamSet& params, const AdamWHyperparameters& hyperparameters,
                 Communicator& dp, int zero);
  static int64_t BytesNeeded(const ParamSet& params, int dp, int zero);

  // What each of `dp` ranks updates: a range of the flat order each with ZeRO, else everything.
  static std::vector<ElementRange> RangesOf(const ParamSet& params, int dp, int zero);
  // The same of this run: whose gradients each dp rank needs summed.
  const std::vector<ElementRange>& ranges() const { return ranges_; }
  bool sharded() const { return sharded_; }
  // This rank's.
  const ElementRange& owned() const { return ranges_[static_cast<size_t>(dp_.rank())]; }

  // ---- a step: in this order, the host waits for nothing ----

  // What the step's update, if it is made, multiplies with.
  void BeginStep(Context& context, double lr);
  // ‖gradient‖₂ over all parameters of the mesh, the same on each rank, and from it gradient_scale(): min(1, clip/(norm + 1e-6)),
  // or NaN, which leaves the update out, where the norm or some of must_be_finite (f64) is not finite. fp64: squares of what this
  // rank owns of each parameter in the order of declaration, parameters that are cut over tp apart from those that every
  // rank holds. Not finite exactly when some gradient is not.
  void MeasureGradient(Context& context, const TensorParallel& tp,
                       const TensorView& must_be_finite) const;
  // One update with gradients multiplied by gradient_scale(); then every rank has all that its kernels read.
  void Update(Context& context) const;
  // Whether it was made, as gradient_scale() said.
  void EndStep(bool updated) { updates_ += updated ? 1 : 0; }

  TensorView gradient_norm() const { return {numbers_.data(), DType::kF64, {1}}; }  // f64 [1]
  TensorView gradient_scale() const;                                                // f32 [1]

  // The same of bf16 copies after values were written from outside, where a rank holds a part of the values.
  void ShareCopies() const;

  // Updates made so far: the exponent of the bias corrections. Part of the training state, like the moments.
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }
  // Of owned elements of the flat buffer, f32.
  TensorView first_moment(const ElementRange& flat) const { return Moment(first_, flat); }
  TensorView second_moment(const ElementRange& flat) const { return Moment(second_, flat); }

 private:
  TensorView Moment(const Buffer& buffer, const ElementRange& flat) const;
  PendingCollective StartShareCopies() const;
  // f64: the norm, then squares of parameters that every tp rank holds, and of those that are cut; f32: the scale, the rate.
  TensorView squares() const;
  TensorView rate() const;
  AdamWParameter PartToUpdate(ParamId id) const;

  const ParamSet& params_;
  AdamWHyperparameters hyperparameters_;
  Communicator& dp_;
  bool sharded_;
  std::vector<ElementRange> ranges_;
  Buffer first_;
  Buffer second_;
  Buffer numbers_;
  int64_t updates_ = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_ADAMW_OPTIMIZER_H_
