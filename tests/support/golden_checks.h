// What a golden case is held to: by the model itself, and by the commands eval and train.
#ifndef ENTRAIN_TESTS_SUPPORT_GOLDEN_CHECKS_H_
#define ENTRAIN_TESTS_SUPPORT_GOLDEN_CHECKS_H_

#include "launcher/train_config.h"
#include "runtime/tensor/dtype.h"
#include "tests/support/golden_case.h"

namespace entrain {

void ExpectGoldenLosses(const GoldenCase& golden, DType compute);
void ExpectGoldenGradients(const GoldenCase& golden, DType compute);

// `entrain eval` with so many sequences at a time, on which nothing may depend.
void ExpectGoldenEval(const GoldenCase& golden, int64_t batch);

// Ten steps of `entrain train` from the case's weights. bf16 follows as closely as its rounding lets it: 1 %, or twice the
// measured floor where that is more.
void ExpectGoldenSteps(const GoldenCase& golden, Precision precision);

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_GOLDEN_CHECKS_H_
