#include "runtime/kernels/attention_engine.h"

namespace entrain::cpu {
namespace {

absl::Status NoGpu() {
  return absl::FailedPreconditionError("cuDNN needs a GPU, and this computes on the CPU");
}

}  // namespace

absl::StatusOr<CudnnBackward> FindCudnnBackward(Context& /*context*/,
                                                const AttentionWork& /*work*/) {
  return NoGpu();
}

absl::StatusOr<CudnnBackward> UseCudnnBackward(Context& /*context*/,
                                               const AttentionWork& /*work*/) {
  return NoGpu();
}

void ForgetCudnnBackward(Context& /*context*/) {}

absl::StatusOr<AttentionTimes> TimeAttentionBackward(Context& /*context*/,
                                                     const AttentionWork& /*work*/,
                                                     const AttentionTiming& /*timing*/,
                                                     int64_t /*most_bytes*/) {
  return NoGpu();
}

}  // namespace entrain::cpu
