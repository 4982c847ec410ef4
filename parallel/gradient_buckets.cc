#include "parallel/gradient_buckets.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "parallel/comm/communicator_limits.h"
#include "parallel/owned_ranges.h"
#include "runtime/base/check.h"
#include "runtime/kernels/cast.h"

namespace entrain {
namespace {

static_assert(GradientBuckets::kMaxBuckets <= kMaxPending / 2, "all may be under way at a time");

int64_t BucketElements(int64_t elements, int64_t bucket_bytes) {
  const int64_t fewest =
      (elements + GradientBuckets::kMaxBuckets - 1) / GradientBuckets::kMaxBuckets;
  return std::max({int64_t{1}, fewest, bucket_bytes / SizeOf(DType::kF32)});
}

}  // namespace

GradientBuckets::GradientBuckets(const ParamSet& params, Communicator& dp, Options options)
    : params_(params),
      dp_(dp),
      wire_(options.wire),
      owned_(std::move(options.owned)),
      wire_buffer_(params.device(), BytesNeeded(params, dp.size(), wire_)),
      bucket_elements_(BucketElements(params.flat_size(), options.bucket_bytes)) {
  CHECK(wire_ == DType::kF32 || wire_ == DType::kBf16);
  const int64_t size = params.flat_size();
  for (int64_t begin = 0; begin < size && dp.size() > 1; begin += bucket_elements_) {
    buckets_.push_back({.range = {begin, std::min(size, begin + bucket_elements_)}});
  }
}

int64_t GradientBuckets::BytesNeeded(const ParamSet& params, int dp, DType wire) {
  return dp > 1 && wire == DType::kBf16 ? params.flat_size() * SizeOf(wire) : 0;
}

void GradientBuckets::BeginStep() {
  for (Bucket& bucket : buckets_) bucket.missing = bucket.range.size();
}

void GradientBuckets::SumPartial(const TensorParallel& tp, ElementRange range) const {
  // Parameters beside each other travel together; what lies between them is zero on every rank.
  ElementRange run;
  for (int i = 0; i < params_.size(); ++i) {
    const int64_t begin = params_.offset({i});
    if (begin < range.begin || begin >= range.end) continue;
    const bool partial = params_.spec({i}).partial_over_tp;
    if (!partial && run.size() > 0) tp.Sum(Gradient(run), "partial gradients");
    if (!partial) run = {};
    if (partial && run.size() == 0) run.begin = begin;
    if (partial) run.end = begin + params_.padded_size({i});
  }
  if (run.size() > 0) tp.Sum(Gradient(run), "partial gradients");
}

void GradientBuckets::Complete(Context& context, ElementRange range) {
  if (buckets_.empty()) return;
  const auto first = static_cast<size_t>(range.begin / bucket_elements_);
  for (size_t i = first; i < buckets_.size() && buckets_[i].range.begin < range.end; ++i) {
    Bucket& bucket = buckets_[i];
    bucket.missing -=
        std::min(range.end, bucket.range.end) - std::max(range.begin, bucket.range.begin);
    CHECK_GE(bucket.missing, 0) << "gradients complete twice in a step";
    if (bucket.missing == 0) Begin(context, bucket);
  }
  dp_.Poll();
}

void GradientBuckets::Begin(Context& context, Bucket& bucket) {
  TensorView travels = Gradient(bucket.range);
  if (wire_ != DType::kF32) {
    travels = Wire(bucket.range);
    Cast(context, Gradient(bucket.range), travels);
  }
  const std::string what = absl::StrCat("gradient bucket ", &bucket - buckets_.data());
  bucket.pending = owned_.empty()
                       ? dp_.StartAllReduce(travels, ReduceOp::kSum, what)
                       : dp_.StartReduceScatter(travels, OwnedWithin(bucket.range), what);
}

std::vector<ElementRange> GradientBuckets::OwnedWithin(const ElementRange& bucket) const {
  std::vector<ElementRange> parts;
  for (const ElementRange& range : owned_) {
    const ElementRange part = Common(range, bucket);
    parts.push_back({part.begin - bucket.begin, part.end - bucket.begin});
  }
  // Empty ones too must be ascending and inside.
  int64_t end = 0;
  for (ElementRange& part : parts) {
    if (part.size() == 0) part = {end, end};
    end = part.end;
  }
  return parts;
}

void GradientBuckets::Finish(Context& context) {
  for (Bucket& bucket : buckets_) {
    if (bucket.missing > 0) {
      bucket.missing = 0;
      Begin(context, bucket);
    }
  }
  for (Bucket& bucket : buckets_) {
    bucket.pending.Wait();
    if (wire_ != DType::kF32) Cast(context, Wire(bucket.range), Gradient(bucket.range));
  }
}

TensorView GradientBuckets::Gradient(const ElementRange& range) const {
  return {params_.flat_gradient().data<float>() + range.begin, DType::kF32, {range.size()}};
}

TensorView GradientBuckets::Wire(const ElementRange& range) const {
  return {static_cast<Bf16*>(wire_buffer_.data()) + range.begin, DType::kBf16, {range.size()}};
}

}  // namespace entrain
