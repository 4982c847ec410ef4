// Decoder: a model that writes, one token at a time, with a cache of keys and values.
#ifndef ENTRAIN_MODEL_DECODER_H_
#define ENTRAIN_MODEL_DECODER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "model/model.h"

namespace entrain {

class Decoder {
 public:
  // `model` must be allocated and filled, and outlive the decoder. Takes memory for a whole context.
  Decoder(Context& context, Model& model);

  // Forgets everything, then reads 1 .. context tokens at once.
  void Prefill(std::span<const int32_t> tokens);
  // Reads one more token; length() must be below the context.
  void Append(int32_t token);

  // Logits of the next token, [V], after the last token read.
  std::span<const float> logits() const { return logits_; }
  int64_t length() const { return length_; }

 private:
  void KeepLogits(const TensorView& last_stream, Head::Saved& saved);

  Context& context_;
  Model& model_;
  int64_t length_ = 0;
  Arena cache_memory_;
  Arena arena_;
  std::vector<AttentionLayer::Cache> caches_;  // a layer
  std::vector<float> logits_;
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_DECODER_H_
