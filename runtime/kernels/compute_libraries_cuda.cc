#include <cublasLt.h>

#include "absl/strings/str_cat.h"
#include "runtime/kernels/attention_engine_cuda.h"
#include "runtime/kernels/compute_libraries.h"

namespace entrain::cuda {

std::string ComputeLibraries(Context& context) {
  const size_t version = cublasLtGetVersion();
  std::string text =
      absl::StrCat("cuBLASLt ", version / 10000, ".", version / 100 % 100, ".", version % 100);
  const std::string cudnn = AttentionEngines::Of(context).NameInUse();
  if (!cudnn.empty()) absl::StrAppend(&text, ", ", cudnn);
  return text;
}

}  // namespace entrain::cuda
