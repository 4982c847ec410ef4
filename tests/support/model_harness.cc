#include "tests/support/model_harness.h"

#include <cmath>

#include "launcher/model_files.h"
#include "runtime/base/check.h"
#include "runtime/base/philox.h"
#include "runtime/tensor/tensor_copy.h"
#include "tests/support/test_device.h"

namespace entrain {
namespace {

// Without the rows of padding.
std::vector<float> Shaped(Context& context, const ParameterSpec& spec, const TensorView& padded) {
  std::vector<float> values = ToHost<float>(context, padded);
  values.resize(static_cast<size_t>(spec.shape[0] * (spec.shape.size() == 2 ? spec.shape[1] : 1)));
  return values;
}

}  // namespace

ModelHarness::ModelHarness(const ModelConfig& config, const HarnessOptions& options)
    : options_(options),
      context_(TestContext(options.threads)),
      model_(std::make_unique<Model>(config)),
      statistics_(config.layers, config.heads) {
  CHECK_EQ(options.batch % options.accumulation, 0);
  model_->Allocate(*context_, options.compute, true);
  const ActivationLayout layout{.batch = options.batch / options.accumulation,
                                .positions = config.context,
                                .compute = options.compute,
                                .training = true,
                                .recompute = options.recompute};
  Arena measure;
  model_->transformer().AllocateActivations(measure, layout);
  arena_ = Arena(*context_, measure.peak_bytes());
  activations_ = model_->transformer().AllocateActivations(arena_, layout);
  model_->transformer().Initialize(*context_, 1);
}

void ModelHarness::Randomize(uint64_t seed) {
  ParamSet& params = model_->params();
  for (int i = 0; i < params.size(); ++i) {
    const ParameterSpec& spec = params.spec({i});
    std::vector<float> values = Value(spec.name);
    for (int64_t j = 0; j < Size(spec.name); ++j) {
      const float normal = NormalAt(seed, StreamOf(spec.name), static_cast<uint64_t>(j));
      if (spec.matrix) {
        values[j] = 0.2F * normal;
      } else if (spec.name.find("temperature") != std::string::npos) {
        values[j] = 0.8F + 0.1F * normal;
      } else if (spec.scale != 0.0F) {
        values[j] = spec.scale * (1.0F + 0.1F * normal);
      } else if (spec.name.find("weight_g") != std::string::npos) {
        values[j] = 1.0F + 0.1F * normal;
      }
    }
    SetValue(spec.name, values);
  }
  Refresh();
}

void ModelHarness::LoadFolder(const std::string& folder) {
  const absl::Status status =
      ReadModelFolderWeights(FileSystem::Posix(), folder, *context_, 1, *model_);
  CHECK(status.ok()) << status.ToString();
}

void ModelHarness::SetBatch(const std::vector<int32_t>& inputs,
                            const std::vector<int32_t>& targets) {
  inputs_ = inputs;
  targets_ = targets;
}

void ModelHarness::RandomBatch(uint64_t seed) {
  const int64_t size = options_.batch * model_->config().context;
  auto draw = [&](const char* stream) {
    std::vector<int32_t> tokens(static_cast<size_t>(size));
    for (int64_t i = 0; i < size; ++i) {
      const auto word = Philox(seed, StreamOf(stream), static_cast<uint64_t>(i))[0];
      tokens[static_cast<size_t>(i)] = static_cast<int32_t>(word % model_->config().vocab);
    }
    return tokens;
  };
  SetBatch(draw("inputs"), draw("targets"));
}

Transformer::Tokens ModelHarness::MicroTokens(int64_t micro_step) {
  const int64_t rows = activations_.rows();
  return model_->transformer().PutTokens(*context_, inputs_.data() + micro_step * rows,
                                         targets_.data() + micro_step * rows, activations_);
}

Losses ModelHarness::Evaluate() { return Run(false); }
Losses ModelHarness::Gradients() { return Run(true); }

Losses ModelHarness::Run(bool gradients) {
  Losses losses;
  Transformer& transformer = model_->transformer();
  EntropyRegularizer* regularizer = model_->regularizer();
  transformer.BeginStep(*context_, false);
  if (regularizer != nullptr) {
    regularizer->BeginStep(*context_, options_.step, options_.accumulation, 1);
  }
  statistics_.Clear();
  const double share = 1.0 / static_cast<double>(options_.accumulation);
  for (int64_t m = 0; m < options_.accumulation; ++m) {
    const Transformer::Tokens tokens = MicroTokens(m);
    if (gradients) transformer.RunBlocks(*context_, tokens.inputs, activations_);
    if (gradients) {
      transformer.LossAndGradient(*context_, tokens, share, m > 0, activations_);
    } else {
      transformer.Loss(*context_, tokens, activations_);
    }
    losses.loss += share * transformer.MeanLoss(*context_, activations_);
    const int64_t rows = activations_.rows();
    EntropyMoments(*context_, activations_.entropy, activations_.moments);
    statistics_.Merge(EntropyStatistics::Read(*context_, activations_.moments, rows));
    if (regularizer != nullptr) {
      regularizer->Measure(*context_, model_->params(),
                           {.entropy = activations_.entropy,
                            .sums = activations_.moments.sums,
                            .rows = rows,
                            .first = m == 0});
    }
    if (!gradients) continue;
    Transformer::EntropyGradient entropy_gradient;
    if (regularizer != nullptr) {
      entropy_gradient = [&](int64_t layer, const TensorView& entropy, const TensorView& buffer) {
        return regularizer->RowGradient(*context_, model_->params(), layer, entropy, buffer,
                                        m == 0);
      };
    }
    transformer.Backward(*context_, tokens, entropy_gradient, m > 0, activations_);
  }
  if (regularizer != nullptr) regularizer->EndStep(*context_, false);
  if (gradients) transformer.EndStep(*context_);
  losses.penalty = regularizer != nullptr ? regularizer->penalty() : 0.0;
  losses.total =
      losses.loss + (regularizer != nullptr ? regularizer->strength() * losses.penalty : 0.0);
  return losses;
}

void ModelHarness::KeepMeans() {
  std::vector<float> means;
  for (const std::vector<double>& layer : statistics_.Means()) {
    means.insert(means.end(), layer.begin(), layer.end());
  }
  EntropyRegularizer* regularizer = model_->regularizer();
  FromHost(*context_, means.data(), regularizer->previous_entropy());
  regularizer->set_has_previous(true);
}

std::vector<float> ModelHarness::Gradient(const std::string& name) const {
  const ParamId id = model_->params().Find(name);
  CHECK(id.valid()) << name;
  return Shaped(*context_, model_->params().spec(id), model_->params().gradient(id));
}

std::vector<std::string> ModelHarness::ParameterNames() const {
  std::vector<std::string> names;
  for (int i = 0; i < model_->params().size(); ++i)
    names.push_back(model_->params().spec({i}).name);
  return names;
}

std::vector<float> ModelHarness::Value(const std::string& name) const {
  const ParamId id = model_->params().Find(name);
  CHECK(id.valid()) << name;
  return Shaped(*context_, model_->params().spec(id), model_->params().value(id));
}

void ModelHarness::SetValue(const std::string& name, const std::vector<float>& values) {
  CHECK_EQ(static_cast<int64_t>(values.size()), Size(name));
  model_->params().SetValue(*context_, model_->params().Find(name), values.data());
}

int64_t ModelHarness::Size(const std::string& name) const {
  const ParameterSpec& spec = model_->params().spec(model_->params().Find(name));
  return spec.shape[0] * (spec.shape.size() == 2 ? spec.shape[1] : 1);
}

std::vector<float> ModelHarness::Entropies() const {
  return ToHost<float>(*context_, activations_.entropy);
}

double RelativeL2(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK_EQ(a.size(), b.size());
  double difference = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    norm += static_cast<double>(b[i]) * b[i];
  }
  return norm > 0.0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

}  // namespace entrain
