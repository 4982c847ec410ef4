#include "runtime/kernels/matmul_tuning.h"

#include "runtime/device/dispatch.h"

namespace entrain {
ENTRAIN_BACKENDS(std::vector<TunedMatmul> TuneMatmuls(Context& context, const MatmulTuning& tuning))
ENTRAIN_BACKENDS(std::string MatmulTable(Context& context))
ENTRAIN_BACKENDS(absl::StatusOr<int> UseMatmulTable(Context& context, std::string_view table,
                                                    int first_line))
ENTRAIN_BACKENDS(MatmulKinds KindsRun(Context& context))

std::vector<TunedMatmul> TuneMatmuls(Context& context, const MatmulTuning& tuning) {
  ENTRAIN_DISPATCH(TuneMatmuls, context, tuning);
}

std::string MatmulTable(Context& context) {
  ENTRAIN_DISPATCH_ON(context.device(), MatmulTable, context);
}

absl::StatusOr<int> UseMatmulTable(Context& context, std::string_view table, int first_line) {
  ENTRAIN_DISPATCH(UseMatmulTable, context, table, first_line);
}

MatmulKinds KindsRun(Context& context) { ENTRAIN_DISPATCH_ON(context.device(), KindsRun, context); }

}  // namespace entrain
