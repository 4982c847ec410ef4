// Weight: a matrix [in, out] of a linear map, possibly re-parameterised. Layers see a plain matrix and its gradient;
// BeginStep builds the matrix once a step and EndStep chains its gradient once a step.
#ifndef ENTRAIN_PARALLEL_WEIGHT_H_
#define ENTRAIN_PARALLEL_WEIGHT_H_

#include <string>

#include "parallel/param_set.h"
#include "parallel/sharded_power_iteration.h"
#include "parallel/sharded_row_norms.h"
#include "runtime/base/enum_table.h"
#include "runtime/tensor/arena.h"

namespace entrain {

// kNone:     parameter `<name>` = W.
// kWeight:   parameters `<name>_v` [in, out] and `<name>_g` [units]; W = g · v/‖v‖.
// kSpectral: parameter `<name>` = W̄ and training state u [out]; W = W̄/σ(W̄), σ from one power iteration a step.
enum class WeightNorm { kNone, kWeight, kSpectral };
inline constexpr EnumTable<WeightNorm, 3> kWeightNormNames{{{{WeightNorm::kNone, "none"},
                                                             {WeightNorm::kWeight, "weight"},
                                                             {WeightNorm::kSpectral, "spectral"}}}};

struct WeightSpec {
  int64_t in = 0;  // of the whole matrix
  int64_t out = 0;
  float std = 0.0F;  // of the initial values
  WeightNorm norm = WeightNorm::kNone;
  NormAxis axis = NormAxis::kOutput;
  MatrixCut cut = MatrixCut::kNone;
  int64_t groups = 1;  // of the columns: q, k and v, each of which is cut
  // Whole, and multiplied with other rows of the batch on every tp rank: its gradient is partial.
  bool partial_gradient = false;
};

class Weight {
 public:
  Weight() = default;
  Weight(ParamSet& params, const std::string& name, const WeightSpec& spec,
         const TensorParallel& tp);

  // Memory for the built matrix and its factors (none when plain).
  void Allocate(Arena& arena, DType compute);

  // g = ‖v‖ (so that W = v at first), u a random unit vector: a function of (seed, name, index). After the values of v are
  // there, and only for a fresh start.
  void InitializeFactors(Context& context, const ParamSet& params, uint64_t seed);
  // After values were read from a file: g of a matrix that came as its effective form; u, which no file holds, by power
  // iterations until σ grows no more (after one iteration from anywhere σ may be half of what it is). Collective over tp.
  void SettleFactors(Context& context, const ParamSet& params);

  // Builds the matrix from its factors. keep_power_iteration: the step of a training run, which carries u on; otherwise
  // (evaluation) the matrix is the one that the next training step would use, and u stays.
  void BeginStep(Context& context, const ParamSet& params, bool keep_power_iteration);
  // Gradient of the matrix → gradients of the factors, in place.
  void EndStep(Context& context, const ParamSet& params);

  // In the compute dtype, as of the last BeginStep.
  TensorView matrix(const ParamSet& params) const;
  // fp32, where layers put ∂L/∂W.
  TensorView gradient(const ParamSet& params) const { return params.gradient(raw_); }
  // The effective matrix in fp32 for an export: valid after BeginStep.
  void CopyEffective(Context& context, const ParamSet& params, const TensorView& out) const;
  // From this rank's part of an effective matrix, in host memory: v = W, W̄ = W; SettleFactors, which must follow, sets g = ‖W‖.
  void SetEffective(Context& context, const ParamSet& params, const float* matrix);

  const std::string& name() const { return name_; }
  WeightNorm norm() const { return norm_; }
  // The persistent u of kSpectral, f32 [out], and what this rank holds of it: a listed piece of training state.
  TensorView power_iteration_state() const { return u_; }
  const ShardSpec& power_iteration_shard() const { return u_shard_; }

 private:
  std::string name_;
  int64_t in_ = 0;  // of this rank's part
  int64_t out_ = 0;
  WeightNorm norm_ = WeightNorm::kNone;
  int64_t units_ = 0;  // with weight norm, here
  ShardedRowNorms row_norms_;
  ShardedPowerIteration power_iteration_;
  ShardSpec u_shard_;
  ParamId raw_;   // W, v or W̄
  ParamId gain_;  // g
  bool gain_is_stale_ = false;
  TensorView effective_;
  TensorView norms_;
  TensorView sums_;    // f64, of a norm or a power iteration while it is made
  TensorView u_;       // state
  TensorView step_u_;  // u and v of the step's σ
  TensorView step_v_;
  TensorView sigma_;  // f64 [1]
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_WEIGHT_H_
