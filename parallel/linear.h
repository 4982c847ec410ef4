// Linear: y = x·W + b, with its gradients: whole on a rank, or cut over tp.
//
//   Linear        W whole; each rank may see other rows of x
//   ColumnLinear  W cut by columns: x whole, y this rank's columns, ∂L/∂x a sum over ranks
//   RowLinear     W cut by rows: x this rank's columns, y a sum over ranks, which joins the residual stream
#ifndef ENTRAIN_PARALLEL_LINEAR_H_
#define ENTRAIN_PARALLEL_LINEAR_H_

#include <string>

#include "parallel/weight.h"
#include "runtime/kernels/matmul.h"

namespace entrain {

// Columns [begin, end) of a bias, of the whole one, are trained; the others stay zero and get no gradient. begin = end: no
// bias at all. They begin and end at the borders of groups where columns are cut.
struct BiasColumns {
  int64_t begin = 0;
  int64_t end = 0;
};

struct LinearSpec {
  WeightSpec weight;
  BiasColumns bias;
};

// An activation that is made together with a product, or its gradient: MatmulArgs has the meaning.
struct FusedActivation {
  MatmulEpilogue epilogue = MatmulEpilogue::kNone;
  TensorView aux;
};

class Linear {
 public:
  Linear() = default;
  // Parameters `<name>.weight` (or its factors) and, with trained columns, `<name>.bias`, cut as the columns are.
  Linear(ParamSet& params, const std::string& name, const LinearSpec& spec,
         const TensorParallel& tp);

  // y = x·W + b [+ addend]. x [R, in] in the compute dtype, y [R, out] compute dtype or f32; with an addend, f32 as it is, which
  // may be y.
  struct ForwardArgs {
    TensorView x;
    TensorView y;
    TensorView addend;
    bool with_bias = true;
    FusedActivation activation;
  };
  void Forward(Context& context, const ParamSet& params, const ForwardArgs& args) const;

  struct Gradients {
    TensorView x;   // input of the forward
    TensorView dy;  // compute dtype [R, out]
    TensorView dx;  // [R, in]: overwritten, or (f32) added to when add_to_dx
    bool add_to_dx = false;
    bool accumulate = false;     // of the parameters' gradients: a later micro-step of a step
    FusedActivation activation;  // of dx
  };
  void Backward(Context& context, const ParamSet& params, const Gradients& gradients) const;

  Weight& weight() { return weight_; }
  const Weight& weight() const { return weight_; }

 private:
  Weight weight_;
  ParamId bias_;
  BiasColumns columns_;  // of this rank's part
};

class ColumnLinear {
 public:
  ColumnLinear() = default;
  // spec.weight.cut is set here.
  ColumnLinear(ParamSet& params, const std::string& name, LinearSpec spec,
               const TensorParallel& tp);

  // x [R, in] whose stream rows are there; the others are gathered into it. y [R, out/n].
  void Forward(Context& context, const ParamSet& params, const TensorView& x, const TensorView& y,
               const FusedActivation& activation = {}) const;

  struct Gradients {
    TensorView x;        // as the forward left it
    TensorView dy;       // compute dtype [R, out/n]
    TensorView dx;       // f32 [stream rows, in]: overwritten, or added to when add_to_dx
    TensorView scratch;  // as TensorParallel::BeginSum
    bool add_to_dx = false;
    bool accumulate = false;
  };
  void Backward(Context& context, const ParamSet& params, const Gradients& gradients) const;

  Linear& linear() { return linear_; }
  const Linear& linear() const { return linear_; }

 private:
  TensorParallel tp_;
  Linear linear_;
};

class RowLinear {
 public:
  RowLinear() = default;
  RowLinear(ParamSet& params, const std::string& name, LinearSpec spec, const TensorParallel& tp);

  // x [R, in/n]; y f32 [stream rows, out] = the sum over ranks of x·W, and b [+ addend, like y, or y itself]. scratch as
  // TensorParallel::BeginSum.
  struct ForwardArgs {
    TensorView x;
    TensorView y;
    TensorView addend;
    TensorView scratch;
  };
  void Forward(Context& context, const ParamSet& params, const ForwardArgs& args) const;

  struct Gradients {
    TensorView x;
    TensorView
        dy;  // compute dtype [R, out] whose stream rows are there; the others are gathered into it
    TensorView dx;  // compute dtype [R, in/n], overwritten
    bool accumulate = false;
    FusedActivation activation;  // of dx
  };
  void Backward(Context& context, const ParamSet& params, const Gradients& gradients) const;

  Linear& linear() { return linear_; }
  const Linear& linear() const { return linear_; }

 private:
  TensorParallel tp_;
  Linear linear_;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_LINEAR_H_
