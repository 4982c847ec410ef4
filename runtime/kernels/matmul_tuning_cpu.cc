#include "runtime/kernels/matmul_tuning.h"

namespace entrain::cpu {

std::vector<TunedMatmul> TuneMatmuls(Context& /*context*/, const MatmulTuning& /*tuning*/) {
  return {};
}

std::string MatmulTable(Context& /*context*/) { return ""; }

absl::StatusOr<int> UseMatmulTable(Context& /*context*/, std::string_view /*table*/,
                                   int /*first_line*/) {
  return 0;
}

MatmulKinds KindsRun(Context& /*context*/) { return {}; }

}  // namespace entrain::cpu
