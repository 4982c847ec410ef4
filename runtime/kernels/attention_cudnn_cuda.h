// CudnnAttention: causal attention on a CUDA device by cuDNN's fused kernels, an engine beside attention's own. bf16 in
// memory, fp32 arithmetic. It does a part of attention.h's contract:
//   - its forward has no entropy. Its backward takes the entropy and its gradient, and may follow a forward that has them;
//   - no temperature: a caller who has one multiplies q by 1/t before, and dq after;
//   - sums come in cuDNN's order: row 0 gives dq and dk that are rounding errors, not exact zeros.
// On Hopper a deterministic backward needs a workspace of 2·B·H·T² bytes; another accumulates dq by atomics.
//
//   ASSIGN_OR_RETURN(auto attention, CudnnAttention::Create(ordinal));
//   const CudnnAttention::Key key = {AttentionPass::kForward, {B, T, H, D}};
//   ASSIGN_OR_RETURN(const CudnnAttention::Info info, attention->Prepare(key));  // or why not
//   RETURN_IF_ERROR(attention->Forward(key.shape, {qkv, out, lse}, workspace, stream));  // info.workspace_bytes
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_CUDNN_CUDA_H_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_CUDNN_CUDA_H_

#include <cuda_runtime.h>

#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/base/enum_table.h"
#include "runtime/base/status.h"

namespace entrain {

struct AttentionShape {
  int64_t batch = 0;
  int64_t positions = 0;
  int64_t heads = 0;
  int64_t width = 0;  // of a head
  auto operator<=>(const AttentionShape&) const = default;
};

enum class AttentionPass {
  kForward,
  kBackward,             // no gradient of the entropy
  kBackwardHeadEntropy,  // one gradient for all rows of a head, [H]
  kBackwardRowEntropy,   // one for each row, [B, H, T]
};
inline constexpr EnumTable<AttentionPass, 4> kAttentionPassNames{
    {{{AttentionPass::kForward, "forward"},
      {AttentionPass::kBackward, "backward"},
      {AttentionPass::kBackwardHeadEntropy, "backward with a head's entropy gradient"},
      {AttentionPass::kBackwardRowEntropy, "backward with a row's entropy gradient"}}}};

class CudnnAttention {
 public:
  struct Key {
    AttentionPass pass = AttentionPass::kForward;
    AttentionShape shape;
    bool deterministic = true;  // of a backward: equal bits in equal runs
    auto operator<=>(const Key&) const = default;
  };
  struct Info {
    int64_t engine = 0;  // cuDNN's number
    int64_t workspace_bytes = 0;
  };
  // Pointers to device memory, shapes and layouts as in attention.h.
  struct ForwardOperands {
    const void* qkv;
    void* out;
    float* lse;
  };
  struct BackwardOperands {
    const void* qkv;
    const void* out;
    const void* dout;
    const float* lse;
    const float* entropy;           // these two with an entropy's gradient only
    const float* entropy_gradient;  // [H] or [B, H, T], by the pass
    void* dqkv;
  };

  // For a device of this process. An error says why there is no cuDNN: FailedPrecondition when the program was built
  // without or the library is too old, NotFound when it is not here.
  static absl::StatusOr<std::unique_ptr<CudnnAttention>> Create(int ordinal);
  // For a device described as cuDNN describes it (tests/data/devices): it can prepare, and not run.
  static absl::StatusOr<std::unique_ptr<CudnnAttention>> CreateFor(std::string_view device_json);
  virtual ~CudnnAttention() = default;

  // "cuDNN 9.19.0"
  virtual std::string Name() const = 0;
  // Makes the plan of a key at its first use, in seconds, and keeps it; or says why cuDNN has none. Unimplemented: it does not
  // support this on this device.
  virtual absl::StatusOr<Info> Prepare(const Key& key) = 0;
  absl::Status Supported(const Key& key) { return Prepare(key).status(); }

  // Issue to the stream, and prepare before where that was not done. `workspace`: as many bytes as Prepare said, aligned
  // to 256.
  virtual absl::Status Forward(const AttentionShape& shape, const ForwardOperands& operands,
                               void* workspace, cudaStream_t stream) = 0;
  virtual absl::Status Backward(const Key& key, const BackwardOperands& operands, void* workspace,
                                cudaStream_t stream) = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_CUDNN_CUDA_H_
