#include "runtime/kernels/attention_engine_cuda.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/device/cuda_device.h"

namespace entrain::cuda {
namespace {

constexpr uintptr_t kAlignment = 16;  // of tensors, bytes

AttentionShape ShapeOf(const AttentionWork& work) {
  return {work.batch, work.positions, work.heads, work.width};
}

std::vector<CudnnAttention::Key> KeysOf(const AttentionWork& work) {
  std::vector<CudnnAttention::Key> keys = {{AttentionPass::kBackward, ShapeOf(work)}};
  if (work.entropy_gradient == EntropyGradientKind::kHead) {
    keys.push_back({AttentionPass::kBackwardHeadEntropy, ShapeOf(work)});
  }
  if (work.entropy_gradient == EntropyGradientKind::kRow) {
    keys.push_back({AttentionPass::kBackwardRowEntropy, ShapeOf(work)});
  }
  return keys;
}

CudnnAttention::Key KeyOf(const AttentionBackwardArgs& args) {
  const TensorView& qkv = args.qkv;
  CudnnAttention::Key key = {AttentionPass::kBackward,
                             {qkv.dim(0), qkv.dim(1), qkv.dim(3), qkv.dim(4)}};
  if (args.entropy_gradient) {
    key.pass = args.entropy_gradient.num_dims() == 1 ? AttentionPass::kBackwardHeadEntropy
                                                     : AttentionPass::kBackwardRowEntropy;
  }
  return key;
}

// What cuDNN is not asked about.
absl::Status CheckWork(const AttentionWork& work) {
  if (work.dtype != DType::kBf16) {
    return absl::UnimplementedError("cuDNN's attention needs bf16 (train.precision = \"bf16\")");
  }
  if (work.temperature) {
    return absl::UnimplementedError(
        "cuDNN's attention has no temperatures (model.temperature must be \"none\")");
  }
  return absl::OkStatus();
}

bool AreAligned(std::initializer_list<TensorView> views) {
  return std::all_of(views.begin(), views.end(), [](const TensorView& view) {
    return reinterpret_cast<uintptr_t>(view.raw()) % kAlignment == 0;
  });
}

}  // namespace

AttentionEngines& AttentionEngines::Of(Context& context) {
  return context.Cache<AttentionEngines>();
}

absl::StatusOr<CudnnAttention*> AttentionEngines::Cudnn(Context& context) {
  if (!cudnn_) {
    ASSIGN_OR_RETURN(cudnn_, CudnnAttention::Create(context.cuda().ordinal));
  }
  return cudnn_.get();
}

absl::StatusOr<CudnnBackward> AttentionEngines::Find(Context& context, const AttentionWork& work) {
  RETURN_IF_ERROR(CheckWork(work));
  ASSIGN_OR_RETURN(CudnnAttention* const cudnn, Cudnn(context));
  CudnnBackward found{.name = cudnn->Name()};
  for (const CudnnAttention::Key& key : KeysOf(work)) {
    const absl::StatusOr<CudnnAttention::Info> info = cudnn->Prepare(key);
    if (!info.ok()) {
      return absl::Status(info.status().code(),
                          absl::StrCat(found.name, ", deterministic: ", info.status().message()));
    }
    found.workspace_bytes = std::max(found.workspace_bytes, info->workspace_bytes);
  }
  return found;
}

absl::StatusOr<CudnnBackward> AttentionEngines::Use(Context& context, const AttentionWork& work) {
  ASSIGN_OR_RETURN(CudnnBackward found, Find(context, work));
  Forget();
  for (const CudnnAttention::Key& key : KeysOf(work)) chosen_.insert(key);
  workspace_bytes_ = found.workspace_bytes;
  return found;
}

void AttentionEngines::Forget() {
  chosen_.clear();
  paused_ = false;
  workspace_ = Buffer();
}

bool AttentionEngines::Backward(Context& context, const AttentionBackwardArgs& args) {
  if (paused_ || chosen_.empty() || args.qkv.dtype() != DType::kBf16 || args.temperature)
    return false;
  const CudnnAttention::Key key = KeyOf(args);
  if (chosen_.count(key) == 0) return false;
  if (!AreAligned({args.qkv, args.out, args.dout, args.dqkv, args.lse, args.entropy,
                   args.entropy_gradient})) {
    return false;
  }
  if (workspace_.bytes() < workspace_bytes_) {
    workspace_ = Buffer(DeviceKind::kCuda, workspace_bytes_);
  }
  const float* gradient = args.entropy_gradient ? args.entropy_gradient.data<float>() : nullptr;
  const absl::Status status =
      cudnn_->Backward(key,
                       {.qkv = args.qkv.raw(),
                        .out = args.out.raw(),
                        .dout = args.dout.raw(),
                        .lse = args.lse.data<float>(),
                        .entropy = gradient == nullptr ? nullptr : args.entropy.data<float>(),
                        .entropy_gradient = gradient,
                        .dqkv = args.dqkv.raw()},
                       workspace_.data(), context.cuda().stream);
  CHECK(status.ok()) << status.message();
  return true;
}

bool BackwardByCudnn(Context& context, const AttentionBackwardArgs& args) {
  return AttentionEngines::Of(context).Backward(context, args);
}

absl::StatusOr<CudnnBackward> FindCudnnBackward(Context& context, const AttentionWork& work) {
  return AttentionEngines::Of(context).Find(context, work);
}

absl::StatusOr<CudnnBackward> UseCudnnBackward(Context& context, const AttentionWork& work) {
  return AttentionEngines::Of(context).Use(context, work);
}

void ForgetCudnnBackward(Context& context) { AttentionEngines::Of(context).Forget(); }

}  // namespace entrain::cuda
