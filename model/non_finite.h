// Where a NaN or an infinity first stands, for the message that a researcher reads at midnight.
#ifndef ENTRAIN_MODEL_NON_FINITE_H_
#define ENTRAIN_MODEL_NON_FINITE_H_

#include <string>

#include "model/model.h"

namespace entrain {

// In the order of the computation: parameters, the stream into and out of each layer, the loss, then gradients from the
// last layer back. "layer 3, output of the block (residual stream)"; "" when all is finite.
std::string FirstNonFinite(Context& context, const Model& model, const Activations& activations);

}  // namespace entrain

#endif  // ENTRAIN_MODEL_NON_FINITE_H_
