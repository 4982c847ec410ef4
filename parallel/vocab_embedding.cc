#include "parallel/vocab_embedding.h"

#include <algorithm>

#include "runtime/kernels/cast.h"
#include "runtime/kernels/embedding.h"

namespace entrain {

VocabShard VocabShard::Of(int64_t vocab, const ShardPlace& place) {
  const int64_t unit = 128 * place.ranks;
  const int64_t padded = (vocab + unit - 1) / unit * unit / place.ranks;
  const int64_t first = std::min(vocab, place.rank * padded);
  return {padded, {.first_token = first, .count = std::min(padded, vocab - first)}};
}

ParameterSpec VocabMatrixSpec(const std::string& name, int64_t vocab, int64_t width, float std,
                              const ShardPlace& place) {
  const VocabShard shard = VocabShard::Of(vocab, place);
  return {.name = name,
          .init = InitKind::kNormal,
          .scale = std,
          .padded_rows = shard.padded,
          .matrix = true,
          .shard = ShardSpec::Rows({vocab, width}, shard.tokens.first_token, shard.tokens.count,
                                   place.ranks)};
}

void VocabEmbedding::Forward(Context& context, const ParamSet& params, const TensorView& tokens,
                             const TensorView& stream, const TensorView& sums,
                             int64_t first_position) const {
  const TensorParallel::Part part = tp_.BeginSum(stream, /*addend=*/{}, sums);
  // Positions are in the sum once: in the first rank's part.
  const bool with_positions = positions_.valid() && tp_.rank() == 0;
  EmbeddingForward(context, {.tokens = tokens,
                             .wte = params.compute(tokens_),
                             .wpe = with_positions ? params.compute(positions_) : TensorView(),
                             .out = part.out,
                             .first_position = first_position,
                             .first_token = vocab_.tokens.first_token});
  tp_.EndSum(context, stream, /*addend=*/{}, part, "embedding");
}

void VocabEmbedding::Backward(Context& context, const ParamSet& params, const TensorView& tokens,
                              const TensorView& dstream, const TensorView& sums,
                              bool accumulate) const {
  TensorView all = dstream;
  if (tp_.sequence_parallel()) {
    all = sums;
    Cast(context, dstream, tp_.StreamPart(all));
    tp_.GatherStream(all, "gradient of the embedding");
  }
  EmbeddingBackward(context,
                    {.tokens = tokens,
                     .dout = all,
                     .dwte = params.gradient(tokens_),
                     .dwpe = positions_.valid() ? params.gradient(positions_) : TensorView(),
                     .accumulate = accumulate,
                     .first_token = vocab_.tokens.first_token});
}

}  // namespace entrain
