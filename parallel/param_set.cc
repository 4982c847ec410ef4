#include "parallel/param_set.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/kernels/cast.h"
#include "runtime/tensor/tensor_copy.h"

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
  specs_.push_back(std::move(spec));
  offsets_.push_back(flat_size_);
  flat_size_ += RoundUp(padded_size(id));
  return id;
}

int64_t ParamSet::padded_size(ParamId id) const {
  const ParameterSpec& s = spec(id);
  return s.padded_rows * (s.shape.size() == 2 ? s.shape[1] : 1);
}

bool ParamSet::IsCopied(int index, DType compute) const {
  const ParameterSpec& s = specs_[static_cast<size_t>(index)];
  return compute == DType::kBf16 && s.matrix && !s.factor;
}

ParamSet::Layout ParamSet::LayOut(DType compute, const std::optional<ElementRange>& owned) const {
  Layout layout{.values = std::vector<int64_t>(specs_.size()),
                .copies = std::vector<int64_t>(specs_.size(), -1)};
  const auto in_part = [&](int i) { return owned && IsCopied(i, compute); };
  for (int i = 0; i < size(); ++i) {
    const int64_t elements = RoundUp(padded_size({i}));
    if (!in_part(i))
      layout.values[i] = std::exchange(layout.whole_size, layout.whole_size + elements);
    if (IsCopied(i, compute)) {
      layout.copies[i] = std::exchange(layout.copies_size, layout.copies_size + elements);
    }
  }
  layout.values_size = layout.whole_size;
  for (int i = 0; i < size(); ++i) {
    if (!in_part(i)) continue;
    const int64_t held = RoundUp(Common(FlatRange({i}), *owned).size());
    layout.values[i] = std::exchange(layout.values_size, layout.values_size + held);
  }
  return layout;
}

int64_t ParamSet::BytesNeeded(DType compute, bool training,
                              const std::optional<ElementRange>& owned) const {
  const Layout layout = LayOut(compute, owned);
  return (layout.values_size + (training ? flat_size_ : 0)) * SizeOf(DType::kF32) +
         layout.copies_size * SizeOf(DType::kBf16);
}

void ParamSet::Allocate(DeviceKind device, DType compute, bool training,
                        const std::optional<ElementRange>& owned) {
  compute_dtype_ = compute;
  owned_ = owned;
  layout_ = LayOut(compute, owned);
  values_ = Buffer(device, layout_.values_size * SizeOf(DType::kF32));
  if (training) gradients_ = Buffer(device, flat_size_ * SizeOf(DType::kF32));
  copies_ = Buffer(device, layout_.copies_size * SizeOf(DType::kBf16));
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

TensorView ParamSet::View(void* data, DType dtype, int64_t offset, ParamId id) const {
  CHECK(data != nullptr) << "not allocated: " << spec(id).name;
  auto* begin = static_cast<char*>(data) + offset * SizeOf(dtype);
  const ParameterSpec& s = spec(id);
  if (s.shape.size() == 2) return {begin, dtype, {s.padded_rows, s.shape[1]}};
  return {begin, dtype, {s.padded_rows}};
}

bool ParamSet::has_copy(ParamId id) const { return IsCopied(id.index, compute_dtype_); }

ElementRange ParamSet::Held(ParamId id) const {
  return owned_ && has_copy(id) ? Common(FlatRange(id), *owned_) : FlatRange(id);
}

TensorView ParamSet::value(ParamId id) const {
  CHECK(is_whole(id)) << spec(id).name << " is held in part";
  return View(values_.data(), DType::kF32, layout_.values[id.index], id);
}

TensorView ParamSet::HeldValue(ParamId id, const ElementRange& flat) const {
  const ElementRange held = Held(id);
  CHECK(held.begin <= flat.begin && flat.end <= held.end)
      << spec(id).name << ": [" << flat.begin << ", " << flat.end << ") is not held";
  const int64_t at = layout_.values[id.index] + flat.begin - held.begin;
  return {static_cast<float*>(values_.data()) + at, DType::kF32, {flat.size()}};
}

void ParamSet::SetValue(Context& context, ParamId id, const float* values) const {
  const ElementRange given{offset(id), offset(id) + spec(id).shard.elements()};
  const ElementRange part = Common(given, Held(id));
  if (part.size() == 0) return;
  FromHost(context, values + (part.begin - given.begin), HeldValue(id, part));
}

TensorView ParamSet::compute(ParamId id) const {
  if (!has_copy(id)) return value(id);
  return View(copies_.data(), DType::kBf16, layout_.copies[id.index], id);
}

TensorView ParamSet::CopyPart(ParamId id, const ElementRange& flat) const {
  CHECK(has_copy(id)) << spec(id).name;
  const int64_t at = layout_.copies[id.index] + flat.begin - offset(id);
  return {static_cast<Bf16*>(copies_.data()) + at, DType::kBf16, {flat.size()}};
}

TensorView ParamSet::gradient(ParamId id) const {
  return View(gradients_.data(), DType::kF32, offset(id), id);
}

void ParamSet::RefreshCompute(Context& context) const {
  for (int i = 0; i < size(); ++i) {
    const ElementRange held = Held({i});
    if (has_copy({i}) && held.size() > 0) Cast(context, HeldValue({i}, held), CopyPart({i}, held));
  }
}

template <typename Has>
ElementRange ParamSet::InVectorOf(const ElementRange& flat, Has&& has) const {
  ElementRange range;
  for (int i = 0; i < size(); ++i) {
    if (!has(ParamId{i})) continue;
    const int64_t elements = RoundUp(padded_size({i}));
    range.begin += std::clamp<int64_t>(flat.begin - offset({i}), 0, elements);
    range.end += std::clamp<int64_t>(flat.end - offset({i}), 0, elements);
  }
  return range;
}

ElementRange ParamSet::InWholeValues(const ElementRange& flat) const {
  return InVectorOf(flat, [&](ParamId id) { return !(owned_ && has_copy(id)); });
}

ElementRange ParamSet::InCopies(const ElementRange& flat) const {
  return InVectorOf(flat, [&](ParamId id) { return has_copy(id); });
}

}  // namespace entrain
