// ParamSet: all parameters of a model in flat buffers, in the order in which they were declared.
#ifndef ENTRAIN_PARALLEL_PARAM_SET_H_
#define ENTRAIN_PARALLEL_PARAM_SET_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

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
  bool matrix =
      false;  // an operand of matrix products or look-ups: decayed, and copied to bf16 in bf16 mode
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

  // Bytes that Allocate takes: values, gradients (training), bf16 copies (compute = bf16).
  int64_t BytesNeeded(DType compute, bool training) const;
  void Allocate(DType compute, bool training);

  int size() const { return static_cast<int>(specs_.size()); }
  const ParameterSpec& spec(ParamId id) const { return specs_[id.index]; }
  ParamId Find(const std::string& name) const;
  // Number of trained numbers of all tp ranks together, padding not counted.
  int64_t num_elements() const;

  // fp32 master value, shape with padding.
  TensorView value(ParamId id) const { return View(values_, DType::kF32, offsets_[id.index], id); }
  // What kernels multiply with: the bf16 copy of a matrix in bf16 mode, else the value itself.
  TensorView compute(ParamId id) const;
  // fp32 gradient of the value.
  TensorView gradient(ParamId id) const {
    return View(gradients_, DType::kF32, offsets_[id.index], id);
  }
  // Place of a parameter in every flat buffer, in elements; the optimizer's moments use the same.
  int64_t offset(ParamId id) const { return offsets_[id.index]; }
  int64_t padded_size(ParamId id) const;
  int64_t flat_size() const { return flat_size_; }
  TensorView flat_value() const { return {values_.data(), DType::kF32, {flat_size_}}; }
  TensorView flat_gradient() const { return {gradients_.data(), DType::kF32, {flat_size_}}; }

  // Brings the bf16 copies up to date after values were written from outside (initialisation, loading).
  void RefreshCompute(Context& context) const;

 private:
  TensorView View(const Buffer& buffer, DType dtype, int64_t offset, ParamId id) const;

  std::vector<ParameterSpec> specs_;
  std::vector<int64_t> offsets_;          // in elements of the fp32 buffers
  std::vector<int64_t> compute_offsets_;  // in elements of the bf16 buffer; −1: no copy
  int64_t flat_size_ = 0;
  int64_t compute_size_ = 0;
  DType compute_dtype_ = DType::kF32;
  Buffer values_;
  Buffer gradients_;
  Buffer compute_;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_PARAM_SET_H_
