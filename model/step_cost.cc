#include "model/step_cost.h"

namespace entrain {

double TrainingFlopsPerToken(const ModelConfig& config) {
  const auto d = static_cast<double>(config.width);
  const auto layers = static_cast<double>(config.layers);
  const auto ffn_layers = static_cast<double>(config.layers - config.ffn_pruned);
  const double ffn =
      config.ffn == Ffn::kFused ? d * d : 2.0 * d * static_cast<double>(config.ffn_width());
  const double matrices =
      layers * 4.0 * d * d + ffn_layers * ffn + static_cast<double>(config.vocab) * d;
  // q·k and a·v over (T + 1)/2 keys on average.
  const double attention = layers * 2.0 * d * (static_cast<double>(config.context) + 1.0) / 2.0;
  return 3.0 * 2.0 * (matrices + attention);
}

double UsualFlopsPerToken(const ModelConfig& config, int64_t parameters) {
  const int64_t padding = (config.padded_vocab() - config.vocab) * config.width;
  const auto attention =
      static_cast<double>(config.layers * config.width) * static_cast<double>(config.context);
  return 6.0 * (static_cast<double>(parameters + padding) + attention);
}

}  // namespace entrain
