// VocabEmbedding: token and position tables; the vocabulary's rows are cut over tp, positions are whole on every rank.
#ifndef ENTRAIN_PARALLEL_VOCAB_EMBEDDING_H_
#define ENTRAIN_PARALLEL_VOCAB_EMBEDDING_H_

#include <string>

#include "parallel/param_set.h"
#include "parallel/tensor_parallel.h"
#include "runtime/kernels/cross_entropy.h"

namespace entrain {

// The vocabulary in memory: padded to a multiple of 128·n, so that every rank holds as many rows, some of which are padding.
struct VocabShard {
  int64_t padded = 0;  // rows here
  VocabRange tokens;   // those that are tokens

  static VocabShard Of(int64_t vocab, const ShardPlace& place);
};

// A matrix f32 [vocab, width], rows cut over tp: the spec of its parameter.
ParameterSpec VocabMatrixSpec(const std::string& name, int64_t vocab, int64_t width, float std,
                              const ShardPlace& place);

class VocabEmbedding {
 public:
  VocabEmbedding() = default;
  // `positions` may be no parameter.
  VocabEmbedding(const TensorParallel& tp, const VocabShard& vocab, ParamId tokens,
                 ParamId positions)
      : tp_(tp), vocab_(vocab), tokens_(tokens), positions_(positions) {}

  // tokens i32 [B, T] → stream f32 [stream rows, C]; sums as TensorParallel::BeginSum.
  void Forward(Context& context, const ParamSet& params, const TensorView& tokens,
               const TensorView& stream, const TensorView& sums, int64_t first_position = 0) const;

  // dstream f32 [stream rows, C]. The tokens' gradient is added to; the positions' is overwritten, or added to when
  // accumulate. sums as TensorParallel::BeginSum.
  void Backward(Context& context, const ParamSet& params, const TensorView& tokens,
                const TensorView& dstream, const TensorView& sums, bool accumulate) const;

 private:
  TensorParallel tp_;
  VocabShard vocab_;
  ParamId tokens_;
  ParamId positions_;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_VOCAB_EMBEDDING_H_
