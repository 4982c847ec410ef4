// Transformer: embedding, blocks, head; forward and backward by hand.
#ifndef ENTRAIN_MODEL_TRANSFORMER_H_
#define ENTRAIN_MODEL_TRANSFORMER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "model/block.h"
#include "model/entropy_statistics.h"
#include "model/head.h"
#include "model/model_config.h"
#include "parallel/param_set.h"
#include "parallel/vocab_embedding.h"
#include "runtime/tensor/arena.h"

namespace entrain {

// What one micro-step runs on.
struct ActivationLayout {
  int64_t batch = 1;
  int64_t positions = 1;
  DType compute = DType::kF32;
  bool training = false;
  bool recompute = false;  // keep only the blocks' inputs; run a block again before its backward
  LogitsLayout logits = {.rows = Head::kChunkRows};
};

// Activations of one micro-step. Without training only one block's are held, and two states of the stream.
struct Activations {
  ActivationLayout layout;
  std::vector<TensorView>
      stream;           // f32 [stream rows, C]: input of every block, then the last one's output
  ResidualStream last;  // what RunBlocks leaves to the head: the last block's output
  std::vector<Block::Saved> blocks;  // one a layer, or a single shared one
  Head::Saved head;
  TensorView tokens;   // i32 [2, R]: inputs and targets
  TensorView entropy;  // f32 [L, B, H, T], H the heads here
  HeadMoments moments;
  TensorView sums;  // f32 [R, C], with sequence parallelism only: as TensorParallel::BeginSum
  // Training only:
  TensorView gradient;          // f32 [stream rows, C], of the stream
  TensorView entropy_gradient;  // f32 [B, H, T]
  Block::Scratch scratch;

  int64_t rows() const { return layout.batch * layout.positions; }
  Block::Saved& SavedOf(int64_t layer) {
    return blocks[blocks.size() == 1 ? 0 : static_cast<size_t>(layer)];
  }
  const TensorView& StreamInto(int64_t layer) const {
    return stream[static_cast<size_t>(layer) % stream.size()];
  }
  TensorView EntropyOf(int64_t layer) const;
};

class Transformer {
 public:
  // Declares every parameter, as this rank of `tp` holds it, into `params`, which must outlive the model. `config` must be
  // valid, and heads and FFN width divide over tp.
  Transformer(const ModelConfig& config, ParamSet& params, const TensorParallel& tp);

  const ModelConfig& config() const { return config_; }

  // Memory of re-parameterised matrices; once, before the first BeginStep.
  void AllocateFactors(Arena& arena, DType compute);
  Activations AllocateActivations(Arena& arena, const ActivationLayout& layout) const;

  // A fresh start: every parameter and state as a function of the seed.
  void Initialize(Context& context, uint64_t seed);
  // After values of the parameters v were loaded, for what follows from them and from the seed alone.
  void InitializeFactors(Context& context, uint64_t seed);
  // After values were read from a file, for the factors that no file need hold. Collective over tp.
  void SettleFactors(Context& context);

  // Builds re-parameterised matrices. training: a step begins (carries the power iteration on).
  void BeginStep(Context& context, bool training);
  // Chains the gradients of re-parameterised matrices, after the last micro-step's backward: of one layer, or of all.
  void EndStep(Context& context, int64_t layer);
  void EndStep(Context& context);

  struct Tokens {
    TensorView inputs;   // i32 [B, T]
    TensorView targets;  // i32 [B·T]
  };
  // Copies a micro-step's tokens, each [B·T] in host memory, to where the model reads them; targets may be null for RunBlocks.
  Tokens PutTokens(Context& context, const int32_t* inputs, const int32_t* targets,
                   const Activations& activations) const;
  // Cross-entropies of rows, in nats, and entropies are left in `activations`.
  void Loss(Context& context, const Tokens& tokens, Activations& activations) const;
  // Their mean, for which the host waits.
  double MeanLoss(Context& context, const Activations& activations) const;

  // A training micro-step is RunBlocks, LossAndGradient, Backward. Embedding and blocks, without the head, after which the
  // micro-step's entropies are known. after_block, if any, is called when a layer's activations are complete (without
  // training the next layer overwrites them); its output may still be pending.
  void RunBlocks(Context& context, const TensorView& inputs, Activations& activations,
                 const std::function<void(int64_t layer)>& after_block = {}) const;
  // The head: cross-entropies of rows, and the gradient of their mean; loss_scale multiplies that (1/accumulation).
  void LossAndGradient(Context& context, const Tokens& tokens, double loss_scale, bool accumulate,
                       Activations& activations) const;
  // ∂L/∂H of a layer's rows, into a buffer f32 [B, H, T] or, when all zero, an empty view.
  using EntropyGradient =
      std::function<TensorView(int64_t layer, const TensorView& entropy, const TensorView& buffer)>;
  // The backward behind the head's. entropy_gradient may be empty. after_layer, if any, is called when a block's gradients are
  // those of the micro-step, from the last block to the first.
  void Backward(Context& context, const Tokens& tokens, const EntropyGradient& entropy_gradient,
                bool accumulate, Activations& activations,
                const std::function<void(int64_t layer)>& after_layer = {}) const;

  const std::vector<Block>& blocks() const { return blocks_; }
  const Head& head() const { return head_; }
  const ParamSet& params() const { return params_; }
  const VocabEmbedding& embedding() const { return embedding_; }

  // Where a block's parameters lie in the flat buffers: [begin, end) elements, all of them and no others.
  std::pair<int64_t, int64_t> FlatRange(int64_t layer) const;

  // Every matrix that may be re-parameterised.
  std::vector<Weight*> factored_weights();
  std::vector<const Weight*> factored_weights() const;

 private:
  // Where the gradient of what comes out of a layer is copied to, if at all.
  TensorView GradientCopy(int64_t layer, const Activations& activations) const {
    if (layer < 0) return {};
    return blocks_[static_cast<size_t>(layer)].GradientCopy(activations.scratch);
  }

  ModelConfig config_;
  ParamSet& params_;
  TensorParallel tp_;
  ParamId wte_;
  VocabEmbedding embedding_;
  std::vector<Block> blocks_;
  std::vector<int> first_param_;  // of each block, and one beyond the last
  Head head_;
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_TRANSFORMER_H_
