// The numbers of one AdamW step, the same for every backend.
#ifndef ENTRAIN_RUNTIME_KERNELS_ADAMW_COEFFICIENTS_H_
#define ENTRAIN_RUNTIME_KERNELS_ADAMW_COEFFICIENTS_H_

#include <cmath>

#include "runtime/kernels/adamw.h"

namespace entrain {

// Each computed in fp64 and rounded once.
struct AdamWCoefficients {
  float gradient_scale;
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float first_correction;   // lr/(1 − β₁^step)
  float second_correction;  // 1/(1 − β₂^step)
  float eps;
  float keep;  // 1 − lr·weight_decay

  explicit AdamWCoefficients(const AdamWArgs& args)
      : gradient_scale(static_cast<float>(args.gradient_scale)),
        beta1(static_cast<float>(args.beta1)),
        one_minus_beta1(static_cast<float>(1.0 - args.beta1)),
        beta2(static_cast<float>(args.beta2)),
        one_minus_beta2(static_cast<float>(1.0 - args.beta2)),
        first_correction(static_cast<float>(
            args.lr / (1.0 - std::pow(args.beta1, static_cast<double>(args.step))))),
        second_correction(
            static_cast<float>(1.0 / (1.0 - std::pow(args.beta2, static_cast<double>(args.step))))),
        eps(static_cast<float>(args.eps)),
        keep(static_cast<float>(1.0 - args.lr * args.weight_decay)) {}
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ADAMW_COEFFICIENTS_H_
