#include "parallel/adamw_optimizer.h"

#include "runtime/base/check.h"
#include "runtime/kernels/gradient_norm.h"
#include "runtime/tensor/tensor_copy.h"

namespace entrain {

AdamWOptimizer::AdamWOptimizer(const ParamSet& params, const AdamWHyperparameters& hyperparameters,
                               Communicator& dp, int zero)
    : params_(params),
      hyperparameters_(hyperparameters),
      dp_(dp),
      sharded_(zero > 0 && dp.size() > 1),
      ranges_(RangesOf(params, dp.size(), zero)),
      first_(params.device(), owned().size() * SizeOf(DType::kF32)),
      second_(params.device(), owned().size() * SizeOf(DType::kF32)),
      numbers_(params.device(), 3 * SizeOf(DType::kF64) + 4 * SizeOf(DType::kF32)) {}

std::vector<ElementRange> AdamWOptimizer::RangesOf(const ParamSet& params, int dp, int zero) {
  if (zero > 0) return OwnedRanges(params, dp);
  return std::vector<ElementRange>(static_cast<size_t>(dp), ElementRange{0, params.flat_size()});
}

int64_t AdamWOptimizer::BytesNeeded(const ParamSet& params, int dp, int zero) {
  return 2 * LargestOwned(params, zero > 0 ? dp : 1) * SizeOf(DType::kF32);
}

TensorView AdamWOptimizer::squares() const {
  return {static_cast<double*>(numbers_.data()) + 1, DType::kF64, {2}};
}

TensorView AdamWOptimizer::gradient_scale() const {
  return {static_cast<double*>(numbers_.data()) + 3, DType::kF32, {1}};
}

TensorView AdamWOptimizer::rate() const {
  return {gradient_scale().data<float>() + 1, DType::kF32, {3}};
}

void AdamWOptimizer::BeginStep(Context& context, double lr) {
  const AdamWHyperparameters& h = hyperparameters_;
  const auto numbers = AdamWRate(lr, h.weight_decay, h.beta1, h.beta2, updates_ + 1);
  FromHost(context, numbers.data(), rate());
}

void AdamWOptimizer::MeasureGradient(Context& context, const TensorParallel& tp,
                                     const TensorView& must_be_finite) const {
  // Of parameters that every tp rank holds, and of those that are cut.
  std::vector<std::vector<TensorView>> groups(2);
  for (int i = 0; i < params_.size(); ++i) {
    const ElementRange flat = PartOf(params_, {i}, owned()).flat;
    groups[params_.spec({i}).shard.is_cut() ? 1 : 0].push_back(
        params_.flat_gradient().Slice(flat.begin, flat.size()));
  }
  SumsOfSquares(context, groups, squares());
  if (sharded_) dp_.AllReduce(squares(), ReduceOp::kSum, "gradient norm");
  tp.Sum(squares().Slice(1, 1), "gradient norm");
  GradientScale(context, {.squares = squares(),
                          .must_be_finite = must_be_finite,
                          .clip = hyperparameters_.clip,
                          .norm = gradient_norm(),
                          .scale = gradient_scale()});
}

void AdamWOptimizer::Update(Context& context) const {
  AdamWArgs args{.beta1 = hyperparameters_.beta1,
                 .beta2 = hyperparameters_.beta2,
                 .eps = hyperparameters_.eps,
                 .rate = rate(),
                 .gradient_scale = gradient_scale()};
  for (int i = 0; i < params_.size(); ++i) args.parameters.push_back(PartToUpdate({i}));
  AdamW(context, args);
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

AdamWParameter AdamWOptimizer::PartToUpdate(ParamId id) const {
  const ParameterSpec& spec = params_.spec(id);
  const ElementRange flat = PartOf(params_, id, owned()).flat;
  if (flat.size() == 0) return {};
  return {.value = params_.HeldValue(id, flat),
          .gradient = params_.flat_gradient().Slice(flat.begin, flat.size()),
          .first_moment = first_moment(flat),
          .second_moment = second_moment(flat),
          .compute = params_.has_copy(id) ? params_.CopyPart(id, flat) : TensorView(),
          .decayed = spec.matrix,
          .minimum = spec.minimum};
}

TensorView AdamWOptimizer::Moment(const Buffer& buffer, const ElementRange& flat) const {
  CHECK(owned().begin <= flat.begin && flat.end <= owned().end) << "moments of another rank";
  return {static_cast<float*>(buffer.data()) + (flat.begin - owned().begin),
          DType::kF32,
          {flat.size()}};
}

}  // namespace entrain
