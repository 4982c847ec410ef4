// A cuDNN of a test's own: the library is not on every machine, nor does the emulated GPU have one. Keeps what it was asked, and
// fills gradients with a mark.
#ifndef ENTRAIN_TESTS_SUPPORT_FAKE_CUDNN_H_
#define ENTRAIN_TESTS_SUPPORT_FAKE_CUDNN_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/device/cuda_device.h"
#include "runtime/kernels/attention_engine_cuda.h"
#include "tests/support/gpu_test.h"

namespace entrain {

class FakeCudnn final : public CudnnAttention {
 public:
  static constexpr int kMark = 0x11;
  struct Asked {
    std::vector<Key> prepared, run;
    BackwardOperands operands = {};
    void* workspace = nullptr;
    absl::Status refusal;  // of every key
    std::string name = "cuDNN 9.99.0";
  };

  explicit FakeCudnn(Asked& asked) : asked_(asked) {}

  // A context whose cuDNN this is.
  static std::unique_ptr<Context> ContextWith(Asked& asked) {
    auto context = Context::CreateCuda(Gpu().cuda().ordinal, 1).value();
    cuda::AttentionEngines::Of(*context).Bring(std::make_unique<FakeCudnn>(asked));
    return context;
  }

  std::string Name() const override { return asked_.name; }
  absl::StatusOr<Info> Prepare(const Key& key) override {
    asked_.prepared.push_back(key);
    RETURN_IF_ERROR(asked_.refusal);
    return Info{.engine = 1, .workspace_bytes = key.pass == AttentionPass::kBackward ? 64 : 4096};
  }
  absl::Status Forward(const AttentionShape& /*shape*/, const ForwardOperands& /*operands*/,
                       void* /*workspace*/, cudaStream_t /*stream*/) override {
    return absl::InternalError("forwards are not asked for");
  }
  absl::Status Backward(const Key& key, const BackwardOperands& operands, void* workspace,
                        cudaStream_t stream) override {
    asked_.run.push_back(key);
    asked_.operands = operands;
    asked_.workspace = workspace;
    const AttentionShape& s = key.shape;
    const auto bytes = static_cast<size_t>(2 * 3 * s.batch * s.positions * s.heads * s.width);
    return cudaMemsetAsync(operands.dqkv, kMark, bytes, stream) == cudaSuccess
               ? absl::OkStatus()
               : absl::InternalError("memset");
  }

 private:
  Asked& asked_;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_FAKE_CUDNN_H_
