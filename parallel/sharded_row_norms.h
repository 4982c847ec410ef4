// Weight normalisation of a matrix that is cut over tp: a unit's norm is that of the whole unit. Formulas:
// runtime/kernels/row_norms.h.
#ifndef ENTRAIN_PARALLEL_SHARDED_ROW_NORMS_H_
#define ENTRAIN_PARALLEL_SHARDED_ROW_NORMS_H_

#include "parallel/tensor_parallel.h"
#include "runtime/kernels/row_norms.h"

namespace entrain {

// Where a matrix [in, out] is cut: nowhere, by rows (dim 0) or by columns (dim 1).
enum class MatrixCut { kNone, kRows, kColumns };

// Units that are cut across ranks (rows cut, unit a column; or the other way about) need sums over tp; then g, norms and dg
// are whole and the same on every rank. Otherwise they are this rank's units and nothing is exchanged.
class ShardedRowNorms {
 public:
  ShardedRowNorms() = default;
  ShardedRowNorms(const TensorParallel& tp, MatrixCut cut, NormAxis axis)
      : tp_(tp),
        axis_(axis),
        spread_(cut == (axis == NormAxis::kOutput ? MatrixCut::kRows : MatrixCut::kColumns)) {}

  // norms f32 [units] = ‖v‖, v f32 [in, out] this rank's part. Here and below: sums f64 [units], scratch.
  void Norms(Context& context, const TensorView& v, const TensorView& sums,
             const TensorView& norms) const;
  // norms, and weight = g · v/norms.
  void Forward(Context& context, const TensorView& v, const TensorView& g, const TensorView& sums,
               const TensorView& norms, const TensorView& weight) const;
  struct Gradients {
    TensorView dweight;
    TensorView dv;  // may alias dweight
    TensorView dg;
  };
  // norms as of the forward.
  void Backward(Context& context, const TensorView& v, const TensorView& g, const TensorView& sums,
                const TensorView& norms, const Gradients& gradients) const;

 private:
  // sums = Σ a∘b of every unit, over all ranks that have a part of it.
  void Products(Context& context, const TensorView& a, const TensorView& b,
                const TensorView& sums) const;

  TensorParallel tp_;
  NormAxis axis_ = NormAxis::kOutput;
  bool spread_ = false;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_SHARDED_ROW_NORMS_H_
