#include <oneapi/dnnl/dnnl.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/kernels/compute_libraries.h"

namespace entrain::cpu {

std::string ComputeLibraries(Context& /*context*/) {
  const dnnl_version_t& version = *dnnl_version();
  return absl::StrCat("oneDNN ", version.major, ".", version.minor, ".", version.patch);
}

}  // namespace entrain::cpu
