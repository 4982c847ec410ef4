// TuningTable: what was measured on a GPU before a run's first step, as the text of tuning.txt.
//
//   entrain tuning 2
//   attention <B> <T> <H> <D> <dtype> <entropies' gradient> <engine> <ms of entrain's> <ms of cuDNN's> <cuDNN's name, or why there is none>
//   entrain matmul table 2 ...                                                                   (runtime/kernels/matmul_tuning.h)
//   checksum <XXH3-128 of all lines before>
#ifndef ENTRAIN_LAUNCHER_TUNING_TABLE_H_
#define ENTRAIN_LAUNCHER_TUNING_TABLE_H_

#include <optional>
#include <string>

#include "runtime/base/status.h"
#include "runtime/kernels/attention_engine.h"

namespace entrain {

struct MeasuredAttention {
  AttentionWork work;
  bool cudnn = false;    // it was faster
  AttentionTimes times;  // 0 where cuDNN cannot
  std::string name;      // "cuDNN 9.19.0", or why it cannot
};

struct TuningTable {
  std::optional<MeasuredAttention> attention;
  std::string products;
  int first_product_line = 0;  // the number of `products`' first line in the text that was parsed

  // "NVIDIA H200, 132 multiprocessors, cuBLASLt 130000"
  std::string Place() const;
  int NumProducts() const;
};

std::string ToText(const TuningTable& table);
// FailedPrecondition: of another format; InvalidArgument: damaged, where a text that was cut off at a line's end or of which a digit
// was changed counts. What `products` holds is read by others.
absl::StatusOr<TuningTable> ParseTuningTable(const std::string& text);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TUNING_TABLE_H_
