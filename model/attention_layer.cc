#include "model/attention_layer.h"

#include <vector>

#include "model/init.h"
#include "runtime/kernels/attention.h"
#include "runtime/kernels/rotary.h"
#include "runtime/tensor/tensor_copy.h"

namespace entrain {
namespace {

// Columns of c_attn's bias that are trained: q and k, v, all or none.
BiasColumns QkvBias(const ModelConfig& config) {
  const int64_t qk = 2 * config.width;
  return {config.qk_bias ? 0 : qk, config.vo_bias ? 3 * config.width : qk};
}

}  // namespace

AttentionLayer::AttentionLayer(ParamSet& params, const std::string& name, const ModelConfig& config,
                               const TensorParallel& tp)
    : width_(tp.Share(config.heads) * config.head_width()),
      heads_(tp.Share(config.heads)),
      rotary_dims_(config.position == Position::kRotary ? config.rotary_dims() : 0),
      qkv_(params, name + ".c_attn",
           {.weight = {.in = config.width, .out = 3 * config.width, .std = kInitStd, .groups = 3},
            .bias = QkvBias(config)},
           tp),
      projection_(params, name + ".c_proj",
                  {.weight = {.in = config.width, .out = config.width, .std = ResidualStd(config)},
                   .bias = {0, config.vo_bias ? config.width : 0}},
                  tp) {
  if (config.temperature == Temperature::kNone) return;
  std::vector<int64_t> shape = {config.heads};
  if (config.temperature == Temperature::kPerQuery) shape.push_back(config.context);
  temperature_ = params.Add({.name = name + ".temperature",
                             .scale = static_cast<float>(config.temperature_init),
                             .minimum = static_cast<float>(config.temperature_min),
                             .shard = ShardSpec::Cut(shape, 0, tp.place())});
}

AttentionLayer::Saved AttentionLayer::AllocateSaved(Arena& arena, int64_t batch, int64_t positions,
                                                    DType compute) const {
  const int64_t head_width = width_ / heads_;
  Saved saved;
  saved.qkv = arena.Allocate("attention qkv", compute, {batch, positions, 3, heads_, head_width});
  saved.out = arena.Allocate("attention output", compute, {batch, positions, heads_, head_width});
  saved.lse = arena.Allocate("attention lse", DType::kF32, {batch, heads_, positions});
  saved.lse_low =
      arena.Allocate("attention lse, low part", DType::kF32, {batch, heads_, positions});
  return saved;
}

void AttentionLayer::Forward(Context& context, const ParamSet& params, const TensorView& z,
                             const TensorView& x, const TensorView& y, const TensorView& sums,
                             const TensorView& entropy, const Saved& saved) const {
  const int64_t rows = z.rows();
  qkv_.Forward(context, params, z, saved.qkv.Reshape({rows, 3 * width_}));
  if (rotary_dims_ > 0) Rotary(context, {.qkv = saved.qkv, .rotary_dims = rotary_dims_});
  AttentionForward(context, {.qkv = saved.qkv,
                             .temperature = TemperatureOf(params),
                             .out = saved.out,
                             .lse = saved.lse,
                             .lse_low = saved.lse_low,
                             .entropy = entropy});
  projection_.Forward(
      context, params,
      {.x = saved.out.Reshape({rows, width_}), .y = y, .addend = x, .scratch = sums});
}

void AttentionLayer::Backward(Context& context, const ParamSet& params, const Saved& saved,
                              const TensorView& z, const TensorView& entropy,
                              const TensorView& entropy_gradient, const TensorView& dz,
                              bool add_to_dz, const Scratch& scratch, bool accumulate) const {
  const int64_t rows = z.rows();
  const TensorView dqkv =
      scratch.qkv.Reshape({saved.qkv.dim(0), saved.qkv.dim(1), 3, heads_, width_ / heads_});
  projection_.Backward(
      context, params,
      {saved.out.Reshape({rows, width_}), scratch.branch, scratch.out, accumulate});
  AttentionBackward(
      context,
      {.qkv = saved.qkv,
       .temperature = TemperatureOf(params),
       .out = saved.out,
       .dout = scratch.out.Reshape({saved.qkv.dim(0), saved.qkv.dim(1), heads_, width_ / heads_}),
       .lse = saved.lse,
       .lse_low = saved.lse_low,
       .entropy = entropy,
       .entropy_gradient = entropy_gradient,
       .dqkv = dqkv,
       .dtemperature = temperature_.valid() ? params.gradient(temperature_) : TensorView(),
       .accumulate = accumulate});
  if (rotary_dims_ > 0) {
    Rotary(context, {.qkv = dqkv, .rotary_dims = rotary_dims_, .inverse = true});
  }
  qkv_.Backward(context, params,
                {.x = z,
                 .dy = scratch.qkv,
                 .dx = dz,
                 .scratch = scratch.sums,
                 .add_to_dx = add_to_dz,
                 .accumulate = accumulate});
}

void AttentionLayer::Decode(Context& context, const ParamSet& params, const TensorView& z,
                            const TensorView& x, const TensorView& y, const TensorView& entropy,
                            const Saved& saved, const Cache& cache, int64_t length) const {
  qkv_.Forward(context, params, z, saved.qkv.Reshape({1, 3 * width_}));
  if (rotary_dims_ > 0) {
    Rotary(context, {.qkv = saved.qkv, .rotary_dims = rotary_dims_, .first_position = length - 1});
  }
  const TensorView rows = saved.qkv.Reshape({3, width_});
  auto put = [&](const TensorView& to, int64_t part) {
    const TensorView positions = to.Reshape({to.dim(0), width_});
    CopyTensor(context, rows.Rows(part, 1), positions.Rows(length - 1, 1));
  };
  put(cache.keys, 1);
  put(cache.values, 2);
  AttentionDecode(context, {.q = rows.Rows(0, 1).Reshape({heads_, width_ / heads_}),
                            .keys = cache.keys,
                            .values = cache.values,
                            .temperature = TemperatureOf(params),
                            .out = saved.out.Reshape({heads_, width_ / heads_}),
                            .entropy = entropy,
                            .length = length});
  projection_.Forward(context, params, {.x = saved.out.Reshape({1, width_}), .y = y, .addend = x});
}

}  // namespace entrain
