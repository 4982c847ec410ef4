#include "runtime/kernels/attention_engine.h"

#include "runtime/device/dispatch.h"

namespace entrain {
ENTRAIN_BACKENDS(absl::StatusOr<CudnnBackward> FindCudnnBackward(Context& context,
                                                                 const AttentionWork& work))
ENTRAIN_BACKENDS(absl::StatusOr<CudnnBackward> UseCudnnBackward(Context& context,
                                                                const AttentionWork& work))
ENTRAIN_BACKENDS(void ForgetCudnnBackward(Context& context))
ENTRAIN_BACKENDS(absl::StatusOr<AttentionTimes> TimeAttentionBackward(
    Context& context, const AttentionWork& work, const AttentionTiming& timing, int64_t most_bytes))

absl::StatusOr<CudnnBackward> FindCudnnBackward(Context& context, const AttentionWork& work) {
  ENTRAIN_DISPATCH(FindCudnnBackward, context, work);
}

absl::StatusOr<CudnnBackward> UseCudnnBackward(Context& context, const AttentionWork& work) {
  ENTRAIN_DISPATCH(UseCudnnBackward, context, work);
}

void UseOwnBackward(Context& context) {
  ENTRAIN_DISPATCH_ON(context.device(), ForgetCudnnBackward, context);
}

int64_t EstimateCudnnWorkspace(const AttentionWork& work) {
  constexpr int64_t kScoreBytes = 2;  // bf16
  constexpr int64_t kRowBytes = 4;    // Σ dO·O
  const int64_t rows = work.batch * work.heads * work.positions;
  return rows * (work.positions * kScoreBytes + kRowBytes);
}

absl::StatusOr<AttentionTimes> TimeAttentionBackward(Context& context, const AttentionWork& work,
                                                     const AttentionTiming& timing,
                                                     int64_t most_bytes) {
  ENTRAIN_DISPATCH(TimeAttentionBackward, context, work, timing, most_bytes);
}

}  // namespace entrain
