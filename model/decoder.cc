#include "model/decoder.h"

#include "runtime/base/check.h"
#include "runtime/device/device_memory.h"
#include "runtime/kernels/cast.h"

namespace entrain {
namespace {

ActivationLayout LayoutFor(const Model& model, int64_t positions) {
  return {
      .batch = 1, .positions = positions, .compute = model.compute_dtype(), .logits = {.rows = 1}};
}

int64_t CacheBytes(const Model& model) {
  const ModelConfig& c = model.config();
  return 2 * c.layers * Buffer::Aligned(c.context * c.width * SizeOf(model.compute_dtype()));
}

int64_t PrefillBytes(const Model& model) {
  Arena measure;
  model.transformer().AllocateActivations(measure, LayoutFor(model, model.config().context));
  return measure.peak_bytes();
}

// Keys (part 1) or values (part 2) of qkv [1, T, 3, H, D] into the first T positions of a cache [capacity, H, D].
void CopyPart(Context& context, const TensorView& qkv, int64_t part, const TensorView& cache) {
  const int64_t positions = qkv.dim(1);
  const int64_t width = qkv.dim(3) * qkv.dim(4);
  const TensorView first = qkv.Reshape({positions * 3, width}).Rows(part, 1);
  Cast(context, {first.raw(), qkv.dtype(), {positions, width}, 3 * width},
       cache.Reshape({cache.dim(0), width}).Rows(0, positions));
}

}  // namespace

Decoder::Decoder(Context& context, Model& model)
    : context_(context),
      model_(model),
      cache_memory_(context, CacheBytes(model)),
      arena_(context, PrefillBytes(model)),
      logits_(static_cast<size_t>(model.config().vocab)) {
  const ModelConfig& config = model.config();
  model.transformer().BeginStep(context, false);
  for (int64_t l = 0; l < config.layers; ++l) {
    AttentionLayer::Cache cache;
    for (TensorView* part : {&cache.keys, &cache.values}) {
      *part = cache_memory_.Allocate("cache", model.compute_dtype(),
                                     {config.context, config.heads, config.head_width()});
    }
    caches_.push_back(cache);
  }
}

void Decoder::Prefill(std::span<const int32_t> tokens) {
  const auto count = static_cast<int64_t>(tokens.size());
  CHECK(count >= 1 && count <= model_.config().context) << count;
  Arena::Scope scope(arena_);
  const Transformer& transformer = model_.transformer();
  Activations a = transformer.AllocateActivations(arena_, LayoutFor(model_, count));
  const TensorView inputs = transformer.PutTokens(context_, tokens.data(), nullptr, a).inputs;
  transformer.RunBlocks(context_, inputs, a, [&](int64_t l) {
    CopyPart(context_, a.SavedOf(l).attention.qkv, 1, caches_[static_cast<size_t>(l)].keys);
    CopyPart(context_, a.SavedOf(l).attention.qkv, 2, caches_[static_cast<size_t>(l)].values);
  });
  length_ = count;
  a.last.Complete(context_);
  KeepLogits(a.last.x.Rows(count - 1, 1), a.head);
}

void Decoder::Append(int32_t token) {
  const ModelConfig& config = model_.config();
  CHECK_LT(length_, config.context);
  Arena::Scope scope(arena_);
  const Transformer& transformer = model_.transformer();
  Activations a = transformer.AllocateActivations(arena_, LayoutFor(model_, 1));
  ++length_;
  const TensorView inputs = transformer.PutTokens(context_, &token, nullptr, a).inputs;
  transformer.embedding().Forward(context_, model_.params(), inputs, a.StreamInto(0), a.sums,
                                  length_ - 1);
  for (int64_t l = 0; l < config.layers; ++l) {
    transformer.blocks()[static_cast<size_t>(l)].Decode(
        context_, model_.params(), a.StreamInto(l), a.StreamInto(l + 1),
        a.EntropyOf(l).Reshape({config.heads}), a.SavedOf(l), caches_[static_cast<size_t>(l)],
        length_);
  }
  KeepLogits(a.StreamInto(config.layers), a.head);
}

// The final norm's memory holds a row for every position; one is enough here.
void Decoder::KeepLogits(const TensorView& last_stream, Head::Saved& saved) {
  Head::Saved row = saved;
  if (row.norm.out) row.norm.out = row.norm.out.Rows(0, 1);
  if (row.norm.mean) row.norm.mean = {row.norm.mean.raw(), DType::kF32, {1}};
  if (row.norm.rstd) row.norm.rstd = {row.norm.rstd.raw(), DType::kF32, {1}};
  const TensorView logits =
      model_.transformer().head().Logits(context_, model_.params(), last_stream, row);
  const auto bytes = static_cast<int64_t>(logits_.size() * sizeof(float));
  CopyToHost(context_, logits.raw(), logits_.data(), bytes);
}

}  // namespace entrain
