// AdamWOptimizer: moments of a ParamSet, the update, and clipping by the global norm.
#ifndef ENTRAIN_PARALLEL_ADAMW_OPTIMIZER_H_
#define ENTRAIN_PARALLEL_ADAMW_OPTIMIZER_H_

#include <cstdint>

#include "parallel/param_set.h"
#include "parallel/tensor_parallel.h"

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
  // `params` must be allocated for training and outlive the optimizer.
  AdamWOptimizer(const ParamSet& params, const AdamWHyperparameters& hyperparameters);
  static int64_t BytesNeeded(const ParamSet& params);

  // ‖gradient‖₂ over all parameters of all tp ranks, fp64, the same on each: squares of each parameter's gradient in the order
  // of declaration, those that are cut apart from those that every rank holds. Not finite exactly when some gradient is not.
  double GradientNorm(Context& context, const TensorParallel& tp) const;

  // One update with gradients multiplied by min(1, clip/(norm + 1e-6)); then values are clamped to their minima.
  void Update(Context& context, double lr, double gradient_norm);

  // Updates made so far: the exponent of the bias corrections. Part of the training state, like the moments.
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }
  TensorView first_moment(ParamId id) const { return Moment(first_, id); }
  TensorView second_moment(ParamId id) const { return Moment(second_, id); }

 private:
  TensorView Moment(const Buffer& buffer, ParamId id) const;

  const ParamSet& params_;
  AdamWHyperparameters hyperparameters_;
  Buffer first_;
  Buffer second_;
  int64_t updates_ = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_ADAMW_OPTIMIZER_H_
