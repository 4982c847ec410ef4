// The numbers of an AdamW update, the same for every backend.
#ifndef ENTRAIN_RUNTIME_KERNELS_ADAMW_COEFFICIENTS_H_
#define ENTRAIN_RUNTIME_KERNELS_ADAMW_COEFFICIENTS_H_

#include "runtime/kernels/adamw.h"

namespace entrain {

// Of all updates of a run; each computed in fp64 and rounded once.
struct AdamWConstants {
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float eps;

  explicit AdamWConstants(const AdamWArgs& args)
      : beta1(static_cast<float>(args.beta1)),
        one_minus_beta1(static_cast<float>(1.0 - args.beta1)),
        beta2(static_cast<float>(args.beta2)),
        one_minus_beta2(static_cast<float>(1.0 - args.beta2)),
        eps(static_cast<float>(args.eps)) {}
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ADAMW_COEFFICIENTS_H_
