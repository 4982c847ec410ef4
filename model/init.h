// Initial values: a function of (seed, tensor name, element index) alone, the same on every device and every mesh.
#ifndef ENTRAIN_MODEL_INIT_H_
#define ENTRAIN_MODEL_INIT_H_

#include <cstdint>

#include "model/model_config.h"
#include "parallel/param_set.h"

namespace entrain {

inline constexpr float kInitStd = 0.02F;

// Standard deviation of the two projections into the residual stream: 0.02, or 0.02/√(2L) with residual_init_scale.
float ResidualStd(const ModelConfig& config);

// Fills every parameter as its spec says (padding rows stay zero) and refreshes the bf16 copies.
void InitializeParameters(Context& context, ParamSet& params, uint64_t seed);

}  // namespace entrain

#endif  // ENTRAIN_MODEL_INIT_H_
