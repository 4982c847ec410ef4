// Which engine computes attention's backward on a GPU: this project's kernels, or cuDNN's. They differ in the last bits: the choice
// is made before the first step of a run, never in the middle. The forward, which returns entropies, is always ours. The CPU has
// nothing to choose.
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_ENGINE_H_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_ENGINE_H_

#include <cstdint>
#include <string>

#include "runtime/base/enum_table.h"
#include "runtime/base/status.h"
#include "runtime/device/context.h"
#include "runtime/tensor/dtype.h"

namespace entrain {

// What backwards may be given as entropies' gradient: nothing, a number for each head, or one for each row.
enum class EntropyGradientKind { kNone, kHead, kRow };
inline constexpr EnumTable<EntropyGradientKind, 3> kEntropyGradientNames{
    {{{EntropyGradientKind::kNone, "none"},
      {EntropyGradientKind::kHead, "head"},
      {EntropyGradientKind::kRow, "row"}}}};

// The backwards of one run, of which those without an entropies' gradient are a part in any case.
struct AttentionWork {
  int64_t batch = 0;
  int64_t positions = 0;
  int64_t heads = 0;
  int64_t width = 0;  // of a head
  DType dtype = DType::kF32;
  bool temperature = false;
  EntropyGradientKind entropy_gradient = EntropyGradientKind::kNone;

  bool operator==(const AttentionWork&) const = default;
};

struct CudnnBackward {
  std::string name;  // "cuDNN 9.19.0"
  int64_t workspace_bytes = 0;
};

// Whether cuDNN takes this work, bit for bit the same in equal runs, and with which workspace. Makes its plans: seconds. An error
// says why not: temperatures and fp32 it does not have, its own reasons for a shape, no library, no GPU.
absl::StatusOr<CudnnBackward> FindCudnnBackward(Context& context, const AttentionWork& work);

// From now on AttentionBackward has cuDNN do this work; the same errors, and nothing changes then. The workspace is taken at the
// first backward.
absl::StatusOr<CudnnBackward> UseCudnnBackward(Context& context, const AttentionWork& work);
// Back to this project's kernels.
void UseOwnBackward(Context& context);

// The workspace of cuDNN's backward, where there is no device to ask: the gradients of all scores in bf16.
int64_t EstimateCudnnWorkspace(const AttentionWork& work);

struct AttentionTiming {
  int rounds = 9;  // the median of these counts
};
// Milliseconds of one backward on random operands.
struct AttentionTimes {
  double entrain_ms = 0.0;
  double cudnn_ms = 0.0;
};
// Takes memory for operands and the workspace meanwhile; ResourceExhausted when `most_bytes` do not suffice. Else the same errors.
absl::StatusOr<AttentionTimes> TimeAttentionBackward(Context& context, const AttentionWork& work,
                                                     const AttentionTiming& timing,
                                                     int64_t most_bytes);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_ENGINE_H_
