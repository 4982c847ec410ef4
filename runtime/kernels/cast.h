// Copies and changes of element type.
#ifndef ENTRAIN_RUNTIME_KERNELS_CAST_H_
#define ENTRAIN_RUNTIME_KERNELS_CAST_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// out = in, each f32 or bf16 (rounded to nearest even), equal [rows, last dim], any row strides.
void Cast(Context& context, const TensorView& in, const TensorView& out);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_CAST_H_
