// Weight normalisation: W = g · v/‖v‖, one norm per output unit (column of [in, out]) or per input row.
// Salimans and Kingma, "Weight Normalization", arXiv 1602.07868.
#ifndef ENTRAIN_RUNTIME_KERNELS_ROW_NORMS_H_
#define ENTRAIN_RUNTIME_KERNELS_ROW_NORMS_H_

#include "runtime/base/enum_table.h"
#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

enum class NormAxis { kOutput, kInput };
inline constexpr EnumTable<NormAxis, 2> kNormAxisNames{
    {{{NormAxis::kOutput, "output"}, {NormAxis::kInput, "input"}}}};

// products[u] = Σ a∘b over unit u; a, b f32 [in, out]; products f64 [out] (kOutput) or [in] (kInput). fp64 sums over chunks of
// rows. Of v with itself: the squared norms.
void UnitProducts(Context& context, const TensorView& a, const TensorView& b, NormAxis axis,
                  const TensorView& products);

// norms f32 [units] = √squares, f64 [units].
void NormsFromSquares(Context& context, const TensorView& squares, const TensorView& norms);

// weight f32 or bf16 [in, out] = g · v/norms; g, norms f32 [units]. A unit of norm 0 gives 0.
struct WeightNormForwardArgs {
  TensorView v;
  TensorView g;
  TensorView norms;
  NormAxis axis;
  TensorView weight;
};
void WeightNormForward(Context& context, const WeightNormForwardArgs& args);

// products f64 [units]: Σ dW·v of each unit. dg = products/‖v‖; dv = g/‖v‖ · (dW − v/‖v‖ · dg). Both are overwritten; dv may
// alias dweight. The others f32.
struct WeightNormBackwardArgs {
  TensorView dweight;
  TensorView v;
  TensorView g;
  TensorView norms;
  TensorView products;
  NormAxis axis;
  TensorView dv;
  TensorView dg;
};
void WeightNormBackward(Context& context, const WeightNormBackwardArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ROW_NORMS_H_
