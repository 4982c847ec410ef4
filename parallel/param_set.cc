#include "parallel/param_set.h"

#include <utility>

#include "runtime/base/check.h"
#include "runtime/kernels/cast.h"

namespace entrain {
namespace {

// Every parameter begins on a cache line in the fp32 and in the bf16 buffer.
constexpr int64_t kAlignElements = 32;

int64_t RoundUp(int64_t value) {
  return (value + kAlignElements - 1) / kAlignElements * kAlignElements;
}

}  // namespace

ParamId ParamSet::Add(ParameterSpec spec) {
  CHECK(values_.bytes() == 0) << "declared after Allocate: " << spec.name;
  CHECK(!Find(spec.name).valid()) << "declared twice: " << spec.name;
  if (spec.shard.shape.empty()) {
    spec.shard = ShardSpec::Whole(spec.shape);
  } else {
    spec.shape = spec.shard.LocalShape();
  }
  CHECK(spec.shape.size() == 1 || spec.shape.size() == 2) << spec.name;
  if (spec.padded_rows == 0) spec.padded_rows = spec.shape[0];
  const ParamId id{size()};
  const bool matrix = spec.matrix;
  specs_.push_back(std::move(spec));
  offsets_.push_back(flat_size_);
  compute_offsets_.push_back(matrix ? compute_size_ : -1);
  flat_size_ += RoundUp(padded_size(id));
  if (matrix) compute_size_ += RoundUp(padded_size(id));
  return id;
}

int64_t ParamSet::padded_size(ParamId id) const {
  const ParameterSpec& s = spec(id);
  return s.padded_rows * (s.shape.size() == 2 ? s.shape[1] : 1);
}

int64_t ParamSet::BytesNeeded(DType compute, bool training) const {
  const int64_t values = flat_size_ * SizeOf(DType::kF32);
  const int64_t copies = compute == DType::kBf16 ? compute_size_ * SizeOf(DType::kBf16) : 0;
  return values * (training ? 2 : 1) + copies;
}

void ParamSet::Allocate(DType compute, bool training) {
  compute_dtype_ = compute;
  const int64_t bytes = flat_size_ * SizeOf(DType::kF32);
  values_ = Buffer(bytes);
  if (training) gradients_ = Buffer(bytes);
  if (compute == DType::kBf16) compute_ = Buffer(compute_size_ * SizeOf(DType::kBf16));
}

ParamId ParamSet::Find(const std::string& name) const {
  for (int i = 0; i < size(); ++i) {
    if (specs_[i].name == name) return {i};
  }
  return {};
}

int64_t ParamSet::num_elements() const {
  int64_t total = 0;
  for (const ParameterSpec& s : specs_) total += s.shard.whole_elements();
  return total;
}

TensorView ParamSet::View(const Buffer& buffer, DType dtype, int64_t offset, ParamId id) const {
  CHECK(buffer.data() != nullptr) << "not allocated: " << spec(id).name;
  auto* data = static_cast<char*>(buffer.data()) + offset * SizeOf(dtype);
  const ParameterSpec& s = spec(id);
  if (s.shape.size() == 2) return {data, dtype, {s.padded_rows, s.shape[1]}};
  return {data, dtype, {s.padded_rows}};
}

TensorView ParamSet::compute(ParamId id) const {
  if (compute_dtype_ == DType::kF32 || compute_offsets_[id.index] < 0) return value(id);
  return View(compute_, DType::kBf16, compute_offsets_[id.index], id);
}

void ParamSet::RefreshCompute(Context& context) const {
  if (compute_dtype_ == DType::kF32) return;
  for (int i = 0; i < size(); ++i) {
    if (compute_offsets_[i] >= 0) Cast(context, value({i}), compute({i}));
  }
}

}  // namespace entrain
