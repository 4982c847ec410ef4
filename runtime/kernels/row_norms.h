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

// norms[u] = ‖v‖ of unit u; v f32 [in, out]; norms f32 [out] (kOutput) or [in] (kInput). fp64 sums over chunks of rows.
void UnitNorms(Context& context, const TensorView& v, NormAxis axis, const TensorView& norms);

// weight f32 or bf16 [in, out] = g · v/norms; g f32 [units]; norms f32 [units] is written. A unit of norm 0 gives 0.
struct WeightNormForwardArgs {
  TensorView v;
  TensorView g;
  NormAxis axis;
  TensorView weight;
  TensorView norms;
};
void WeightNormForward(Context& context, const WeightNormForwardArgs& args);

// dg = Σ dW·v/‖v‖ over the unit; dv = g/‖v‖ · (dW − v/‖v‖ · dg). Both are overwritten; dv may alias dweight. All f32.
struct WeightNormBackwardArgs {
  TensorView dweight;
  TensorView v;
  TensorView g;
  TensorView norms;
  NormAxis axis;
  TensorView dv;
  TensorView dg;
};
void WeightNormBackward(Context& context, const WeightNormBackwardArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ROW_NORMS_H_
