#ifndef ENTRAIN_RUNTIME_KERNELS_ENTROPY_PENALTY_CPU_H_
#define ENTRAIN_RUNTIME_KERNELS_ENTROPY_PENALTY_CPU_H_

#include "runtime/kernels/entropy_penalty.h"

namespace entrain::cpu {

void RowPenalty(Context& context, const RowPenaltyArgs& args, HeadPenalty* sums);

}  // namespace entrain::cpu

#endif  // ENTRAIN_RUNTIME_KERNELS_ENTROPY_PENALTY_CPU_H_
