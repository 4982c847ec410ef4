// AttentionEngines: what a context knows of cuDNN, and which backwards it has it do.
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_ENGINE_CUDA_H_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_ENGINE_CUDA_H_

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/device/buffer.h"
#include "runtime/device/context.h"
#include "runtime/kernels/attention.h"
#include "runtime/kernels/attention_cudnn_cuda.h"
#include "runtime/kernels/attention_engine.h"

namespace entrain::cuda {

class AttentionEngines {
 public:
  // Those of a context.
  static AttentionEngines& Of(Context& context);

  // In place of the library's; for tests.
  void Bring(std::unique_ptr<CudnnAttention> cudnn) { cudnn_ = std::move(cudnn); }

  absl::StatusOr<CudnnBackward> Find(Context& context, const AttentionWork& work);
  absl::StatusOr<CudnnBackward> Use(Context& context, const AttentionWork& work);
  void Forget();
  // Of the library that was chosen for some backward, "cuDNN 9.19.0"; or "".
  std::string NameInUse() const { return chosen_.empty() ? "" : cudnn_->Name(); }
  // While it is, what was chosen is not done: for comparisons.
  void set_paused(bool paused) { paused_ = paused; }

  // False, and nothing is done: it is not cuDNN's.
  bool Backward(Context& context, const AttentionBackwardArgs& args);

 private:
  absl::StatusOr<CudnnAttention*> Cudnn(Context& context);

  std::unique_ptr<CudnnAttention> cudnn_;  // null: not asked for yet
  std::set<CudnnAttention::Key> chosen_;
  bool paused_ = false;
  int64_t workspace_bytes_ = 0;
  Buffer workspace_;
};

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_ENGINE_CUDA_H_
