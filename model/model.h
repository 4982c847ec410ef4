// Model: an architecture with its parameters: the transformer and, where the configuration has one, the regulariser.
#ifndef ENTRAIN_MODEL_MODEL_H_
#define ENTRAIN_MODEL_MODEL_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/entropy_regularizer.h"
#include "model/transformer.h"

namespace entrain {

class Model {
 public:
  // Declares every parameter, as this rank of `tp` holds it; takes no memory yet. `config` must be valid and divide over tp.
  explicit Model(const ModelConfig& config, const TensorParallel& tp = {});
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // Parameters and re-parameterised matrices, values still to be set. owned: as in ParamSet::Allocate.
  // The context's device is the model's from now on; the context must outlive it.
  void Allocate(Context& context, DType compute, bool training,
                const std::optional<ElementRange>& owned = {});
  // What Allocate takes besides parameters, in bytes.
  int64_t FactorBytes(DType compute);

  // What training must carry besides parameters and moments: f32, by name.
  struct State {
    std::string name;
    ShardSpec shard;
    float* data;  // in the model's device's memory
  };
  std::vector<State> ExtraState();

  const ModelConfig& config() const { return transformer_.config(); }
  const TensorParallel& tp() const { return tp_; }
  DType compute_dtype() const { return compute_; }
  ParamSet& params() { return params_; }
  const ParamSet& params() const { return params_; }
  Transformer& transformer() { return transformer_; }
  const Transformer& transformer() const { return transformer_; }
  // Null without a regulariser.
  EntropyRegularizer* regularizer() { return regularizer_ ? &*regularizer_ : nullptr; }
  const EntropyRegularizer* regularizer() const { return regularizer_ ? &*regularizer_ : nullptr; }

 private:
  TensorParallel tp_;
  ParamSet params_;
  // Before the transformer: thresholds get their last gradient with the first block's, as the embeddings do, and lie beside
  // them.
  std::optional<EntropyRegularizer> regularizer_;
  Transformer transformer_;
  DType compute_ = DType::kF32;
  Arena factors_;
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_MODEL_H_
