// How much arithmetic a token costs: for GFLOP/s, MFU and estimates of time.
#ifndef ENTRAIN_MODEL_STEP_COST_H_
#define ENTRAIN_MODEL_STEP_COST_H_

#include <cstdint>

#include "model/model_config.h"

namespace entrain {

// Floating-point operations (2 a multiply-add) of matrix products and attention for one token: forward and backward, which
// is twice the forward; attention counts the causal half. Recomputation is not counted: it is no progress.
double TrainingFlopsPerToken(const ModelConfig& config);

// The same as reports on other trainers count it, for MFU: 6N + 6·L·C·T, N the parameters with the vocabulary's padding.
// `parameters`: without it.
double UsualFlopsPerToken(const ModelConfig& config, int64_t parameters);

}  // namespace entrain

#endif  // ENTRAIN_MODEL_STEP_COST_H_
