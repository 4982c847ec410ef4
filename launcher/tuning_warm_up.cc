#include "launcher/tuning_warm_up.h"

#include <vector>

#include "launcher/step_memory.h"
#include "runtime/device/device_memory.h"

namespace entrain {

void WarmUp(const TrainConfig& config, Context& context, const Mesh& mesh, Model& model) {
  const int dp = mesh.dp().size();
  const ActivationLayout layout = TrainingLayout(config, dp, context.device());
  Transformer& transformer = model.transformer();
  Arena measure;
  transformer.AllocateActivations(measure, layout);
  Arena arena(context, measure.peak_bytes());
  Activations activations = transformer.AllocateActivations(arena, layout);
  const std::vector<int32_t> zeros(static_cast<size_t>(activations.rows()), 0);

  transformer.Initialize(context, config.train.seed);
  model.params().RefreshCompute(context);
  transformer.BeginStep(context, true);
  // Products that overwrite gradients, and products that add to them.
  const int kinds = config.accumulation(dp) > 1 ? 2 : 1;
  for (int kind = 0; kind < kinds; ++kind) {
    const bool accumulate = kind > 0;
    const Transformer::Tokens tokens =
        transformer.PutTokens(context, zeros.data(), zeros.data(), activations);
    transformer.RunBlocks(context, tokens.inputs, activations);
    transformer.LossAndGradient(context, tokens, 1.0, accumulate, activations);
    transformer.Backward(context, tokens, {}, accumulate, activations);
  }
  transformer.EndStep(context);
  Synchronize(context);
}

}  // namespace entrain
