#include "parallel/adamw_optimizer.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/check.h"
#include "runtime/kernels/adamw.h"
#include "runtime/kernels/reduce.h"

namespace entrain {
namespace {

TensorView Slice(const TensorView& flat, const ElementRange& range) {
  auto* data = static_cast<char*>(flat.raw()) + range.begin * SizeOf(flat.dtype());
  return {data, flat.dtype(), {range.size()}};
}

}  // namespace

AdamWOptimizer::AdamWOptimizer(const ParamSet& params, const AdamWHyperparameters& hyperparameters,
                               Communicator& dp, int zero)
    : params_(params),
      hyperparameters_(hyperparameters),
      dp_(dp),
      sharded_(zero > 0 && dp.size() > 1),
      ranges_(RangesOf(params, dp.size(), zero)),
      first_(params.device(), owned().size() * SizeOf(DType::kF32)),
      second_(params.device(), owned().size() * SizeOf(DType::kF32)) {}

std::vector<ElementRange> AdamWOptimizer::RangesOf(const ParamSet& params, int dp, int zero) {
  if (zero > 0) return OwnedRanges(params, dp);
  return std::vector<ElementRange>(static_cast<size_t>(dp), ElementRange{0, params.flat_size()});
}

int64_t AdamWOptimizer::BytesNeeded(const ParamSet& params, int dp, int zero) {
  return 2 * LargestOwned(params, zero > 0 ? dp : 1) * SizeOf(DType::kF32);
}

double AdamWOptimizer::GradientNorm(Context& context, const TensorParallel& tp) const {
  std::vector<TensorView> parts;
  for (int i = 0; i < params_.size(); ++i) {
    parts.push_back(Slice(params_.flat_gradient(), PartOf(params_, {i}, owned()).flat));
  }
  const std::vector<double> sums = SumsOfSquares(context, parts);
  // Of parameters that every tp rank holds, and of those that are cut.
  double squares[] = {0.0, 0.0};
  for (int i = 0; i < params_.size(); ++i) {
    squares[params_.spec({i}).shard.is_cut() ? 1 : 0] += sums[static_cast<size_t>(i)];
  }
  if (sharded_) dp_.host().AllReduce({squares, DType::kF64, {2}}, ReduceOp::kSum, "gradient norm");
  tp.SumOnHost({&squares[1], 1}, "gradient norm");
  return std::sqrt(squares[0] + squares[1]);
}

void AdamWOptimizer::Update(Context& context, double lr, double gradient_norm) {
  const AdamWHyperparameters& h = hyperparameters_;
  const double scale = h.clip > 0.0 ? std::min(1.0, h.clip / (gradient_norm + 1e-6)) : 1.0;
  ++updates_;
  for (int i = 0; i < params_.size(); ++i) UpdateParameter(context, {i}, lr, scale);
  if (!sharded_) return;
  std::vector<ElementRange> parts;
  for (const ElementRange& range : ranges_) parts.push_back(params_.InWholeValues(range));
  PendingCollective copies = StartShareCopies();
  dp_.AllGather(params_.whole_values(), parts, "updated values");
  copies.Wait();
}

PendingCollective AdamWOptimizer::StartShareCopies() const {
  if (!sharded_ || params_.copies().size() == 0) return PendingCollective([] {});
  std::vector<ElementRange> parts;
  for (const ElementRange& range : ranges_) parts.push_back(params_.InCopies(range));
  return dp_.StartAllGather(params_.copies(), parts, "updated bf16 copies");
}

void AdamWOptimizer::ShareCopies() const { StartShareCopies().Wait(); }

void AdamWOptimizer::UpdateParameter(Context& context, ParamId id, double lr,
                                     double gradient_scale) const {
  const AdamWHyperparameters& h = hyperparameters_;
  const ParameterSpec& spec = params_.spec(id);
  const ElementRange flat = PartOf(params_, id, owned()).flat;
  if (flat.size() == 0) return;
  const TensorView value = params_.HeldValue(id, flat);
  AdamW(context, {.value = value,
                  .gradient = Slice(params_.flat_gradient(), flat),
                  .first_moment = first_moment(flat),
                  .second_moment = second_moment(flat),
                  .compute = params_.has_copy(id) ? params_.CopyPart(id, flat) : TensorView(),
                  .lr = lr,
                  .beta1 = h.beta1,
                  .beta2 = h.beta2,
                  .eps = h.eps,
                  .weight_decay = spec.matrix ? h.weight_decay : 0.0,
                  .gradient_scale = gradient_scale,
                  .step = updates_});
  if (std::isfinite(spec.minimum)) ClampMin(context, value, spec.minimum);
}

TensorView AdamWOptimizer::Moment(const Buffer& buffer, const ElementRange& flat) const {
  CHECK(owned().begin <= flat.begin && flat.end <= owned().end) << "moments of another rank";
  return {static_cast<float*>(buffer.data()) + (flat.begin - owned().begin),
          DType::kF32,
          {flat.size()}};
}

}  // namespace entrain
