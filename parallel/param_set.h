// ParamSet: all parameters of a model in flat buffers, in the order in which they were declared.
//
// A place in the flat order, an offset or an ElementRange "flat", means the same in the gradients and in the optimizer's moments.
// fp32 values lie in that order too, unless some are held in part: in bf16 mode kernels multiply with copies, and a rank
// that updates a range of the values needs no others in fp32 (ZeRO).
#ifndef ENTRAIN_PARALLEL_PARAM_SET_H_
#define ENTRAIN_PARALLEL_PARAM_SET_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/shard_spec.h"
#include "runtime/device/buffer.h"
#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// How a parameter starts: N(0, scale²), or the constant `scale`.
enum class InitKind { kNormal, kConstant };

struct ParameterSpec {
  std::string name;            // as in an export: "transformer.h.0.attn.c_attn.weight"
  std::vector<int64_t> shape;  // one or two dims; follows from `shard` where that is given
  InitKind init = InitKind::kConstant;
  float scale = 0.0F;
  int64_t padded_rows = 0;  // rows held in memory, ≥ shape[0]; the padding stays zero. 0: shape[0]
  // An operand of matrix products or look-ups: decayed, and copied to bf16 in bf16 mode.
  bool matrix = false;
  // A matrix that kernels read in fp32, to build another of it: it is not copied.
  bool factor = false;
  float minimum = -std::numeric_limits<float>::infinity();  // clamped to after every update
  // What this rank holds of a tensor that is cut over tp; left out: all of it.
  ShardSpec shard;
  // Whole on every tp rank, but each sees only some rows of the batch: gradients are to be summed over tp.
  bool partial_over_tp = false;
};

// Refers to a parameter of one ParamSet; cheap to copy.
struct ParamId {
  int index = -1;
  bool valid() const { return index >= 0; }
};

class ParamSet {
 public:
  // Declares a parameter; all must be declared before Allocate.
  ParamId Add(ParameterSpec spec);

  // Takes memory of the device for values, gradients (training), bf16 copies (compute = bf16). owned: of values that have a
  // copy only this range of the flat order is held.
  void Allocate(DeviceKind device, DType compute, bool training,
                const std::optional<ElementRange>& owned = {});
  // The bytes of that.
  int64_t BytesNeeded(DType compute, bool training,
                      const std::optional<ElementRange>& owned = {}) const;

  DeviceKind device() const { return values_.device(); }
  int size() const { return static_cast<int>(specs_.size()); }
  const ParameterSpec& spec(ParamId id) const { return specs_[id.index]; }
  ParamId Find(const std::string& name) const;
  // Number of trained numbers of all tp ranks together, padding not counted.
  int64_t num_elements() const;

  // fp32 master value, shape with padding; of a parameter that is held whole.
  TensorView value(ParamId id) const;
  // Whether values that have a copy are held in part, as Allocate was told.
  bool holds_part() const { return owned_ && owned_->size() < flat_size_; }
  bool is_whole(ParamId id) const { return Held(id).size() == padded_size(id); }
  // What is held of the value, and a part of it, as a vector.
  ElementRange Held(ParamId id) const;
  TensorView HeldValue(ParamId id, const ElementRange& flat) const;
  // From values of the parameter's shape, in host memory; what is not held is left out.
  void SetValue(Context& context, ParamId id, const float* values) const;

  // What kernels multiply with: the bf16 copy of a matrix in bf16 mode, else the value itself.
  TensorView compute(ParamId id) const;
  bool has_copy(ParamId id) const;
  // A part of a copy, as a vector.
  TensorView CopyPart(ParamId id, const ElementRange& flat) const;
  // Brings the copies of what is held up to date after values were written from outside (initialisation, loading).
  void RefreshCompute(Context& context) const;

  // fp32 gradient of the value.
  TensorView gradient(ParamId id) const;
  TensorView flat_gradient() const { return {gradients_.data(), DType::kF32, {flat_size_}}; }
  // Place of a parameter in the flat order, in elements, with its padded rows.
  int64_t offset(ParamId id) const { return offsets_[id.index]; }
  int64_t padded_size(ParamId id) const;
  ElementRange FlatRange(ParamId id) const { return {offset(id), offset(id) + padded_size(id)}; }
  int64_t flat_size() const { return flat_size_; }

  // All values that are held whole, and all copies, each as one vector in the flat order; and where a range of that order
  // lies in them. For what is exchanged in one piece.
  TensorView whole_values() const { return {values_.data(), DType::kF32, {layout_.whole_size}}; }
  TensorView copies() const { return {copies_.data(), DType::kBf16, {layout_.copies_size}}; }
  ElementRange InWholeValues(const ElementRange& flat) const;
  ElementRange InCopies(const ElementRange& flat) const;

 private:
  // Sizes of the buffers, and where each parameter lies in them.
  struct Layout {
    std::vector<int64_t> values;  // of what is held of a parameter
    std::vector<int64_t> copies;  // -1: none
    int64_t whole_size = 0;
    int64_t values_size = 0;
    int64_t copies_size = 0;
  };
  Layout LayOut(DType compute, const std::optional<ElementRange>& owned) const;
  bool IsCopied(int index, DType compute) const;
  // Where a range of the flat order lies in a vector of some of the parameters: those of which `has` holds.
  template <typename Has>
  ElementRange InVectorOf(const ElementRange& flat, Has&& has) const;
  TensorView View(void* data, DType dtype, int64_t offset, ParamId id) const;

  std::vector<ParameterSpec> specs_;
  std::vector<int64_t> offsets_;
  int64_t flat_size_ = 0;
  DType compute_dtype_ = DType::kF32;
  std::optional<ElementRange> owned_;
  Layout layout_;
  Buffer values_;  // those held whole, then parts
  Buffer gradients_;
  Buffer copies_;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_PARAM_SET_H_
