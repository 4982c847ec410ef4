#include "tests/support/variants.h"

#include <algorithm>
#include <functional>
#include <ostream>

#include "runtime/base/check.h"

namespace entrain {
namespace {

// A preset at a size that a test can afford; widths and lengths that are no multiple of a vector.
ModelConfig Small(const std::string& preset) {
  auto config = PresetArchitecture(preset);
  CHECK(config.ok()) << config.status().ToString();
  config->layers = 3;
  config->heads = 2;
  config->width = 20;
  config->context = 13;
  config->vocab = 43;
  return *config;
}

Variant Row(const std::string& name, const std::string& preset,
            const std::function<void(ModelConfig&)>& change = {}) {
  Variant variant{name, Small(preset)};
  if (change) change(variant.config);
  const absl::Status valid = variant.config.Validate();
  CHECK(valid.ok()) << name << ": " << valid.ToString();
  return variant;
}

std::vector<Variant> Table() {
  return {
      Row("sm_ln_g", "sm-ln-g"),
      Row("sm_ln_r", "sm-ln-r"),
      Row("sm_ln", "sm-ln"),
      Row("sm_g", "sm-g"),
      Row("sm_r", "sm-r"),
      Row("sm", "sm"),
      Row("sm_wnorm", "sm-wnorm"),
      Row("sm_wnorm_input", "sm-wnorm",
          [](ModelConfig& c) { c.weight_norm_axis = NormAxis::kInput; }),
      Row("sm_snorm", "sm-snorm"),
      Row("sm_scffn", "sm-scffn"),
      Row("sm_scfuffn", "sm-scfuffn"),
      Row("sm_scfuffn_i1", "sm-scfuffn-i1"),
      Row("fused_wnorm", "sm-scfuffn",
          [](ModelConfig& c) { c.ffn_weight_norm = WeightNorm::kWeight; }),
      Row("fused_unscaled", "sm-scfuffn", [](ModelConfig& c) { c.ffn_scaling = false; }),
      Row("ereg", "ereg"),
      Row("ereg_i2", "ereg-i2"),
      Row("ereg_causal", "ereg",
          [](ModelConfig& c) { c.entropy_regularizer->max_entropy = MaxEntropy::kCausal; }),
      Row("ereg_query", "ereg",
          [](ModelConfig& c) { c.entropy_regularizer->granularity = Granularity::kQuery; }),
      Row("ereg_query_causal", "ereg",
          [](ModelConfig& c) {
            c.entropy_regularizer->granularity = Granularity::kQuery;
            c.entropy_regularizer->max_entropy = MaxEntropy::kCausal;
          }),
      Row("ereg_previous_step", "ereg",
          [](ModelConfig& c) { c.entropy_regularizer->statistics = Statistics::kPreviousStep; }),
      Row("ereg_ramp", "ereg",
          [](ModelConfig& c) {
            c.entropy_regularizer->start_step = 2;
            c.entropy_regularizer->warmup_steps = 5;
          }),
      Row("ereg_per_head", "ereg", [](ModelConfig& c) { c.temperature = Temperature::kPerHead; }),
      Row("ereg_layernorm_gelu", "sm-ln-g",
          [](ModelConfig& c) { c.entropy_regularizer = EntropyRegularizerConfig(); }),
      Row("pythia", "pythia", [](ModelConfig& c) { c.width = 32; }),
      Row("parallel_scaled_pruned", "pythia",
          [](ModelConfig& c) {
            c.width = 32;
            c.ffn_scaling = true;
            c.ffn_pruned = 1;
            c.block_norm = Norm::kNone;
          }),
      Row("untied_no_final_norm", "sm-ln-g",
          [](ModelConfig& c) {
            c.tie_word_embeddings = false;
            c.final_norm = Norm::kNone;
          }),
      Row("vo_bias_only", "sm-g",
          [](ModelConfig& c) {
            c.qk_bias = false;
            c.vo_bias = true;
          }),
  };
}

}  // namespace

const std::vector<Variant>& Variants() {
  static const std::vector<Variant> table = Table();
  return table;
}

void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

}  // namespace entrain
