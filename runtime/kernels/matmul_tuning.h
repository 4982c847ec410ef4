// Which of cuBLASLt's algorithms a product runs on: the first that its heuristics name, with few long sums cut into parts by a rule
// (matmul_splits_cuda.h), or one chosen by measurement. Other algorithms give other last bits: a run repeats itself bit for bit on
// one table of choices. The CPU has nothing to choose.
#ifndef ENTRAIN_RUNTIME_KERNELS_MATMUL_TUNING_H_
#define ENTRAIN_RUNTIME_KERNELS_MATMUL_TUNING_H_

#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/device/context.h"

namespace entrain {

struct MatmulTuning {
  int rounds = 5;            // the median of these counts
  double round_ms = 2.0;     // of one algorithm, about
  double least_gain = 0.01;  // below which the first choice stays
};

// One product's outcome. A choice of −1: the product and its epilogue run apart, as two ops.
struct TunedMatmul {
  std::string product;
  int algorithms = 0;
  int choice = 0;
  double before_ms = 0.0;
  double after_ms = 0.0;
};

// Measures the algorithms of all products that this context has run so far, on random operands of its own that do not stay in the
// cache, and uses the fastest from now on. Takes a second or so; products whose operands do not fit into the memory that is free
// are left out. Ranks that must agree share one rank's table.
std::vector<TunedMatmul> TuneMatmuls(Context& context, const MatmulTuning& tuning);

// The choices of this context as lines of text, for UseMatmulTable on the same kind of GPU with the same cuBLASLt.
std::string MatmulTable(Context& context);

// Takes a table's choices; returns how many. FailedPrecondition for a table of another format, GPU or cuBLASLt, InvalidArgument for a
// damaged one; nothing is changed then, and the caller may go on without it. `first_line`: the number of the table's first line in the
// file that it comes from, for messages.
absl::StatusOr<int> UseMatmulTable(Context& context, std::string_view table, int first_line = 1);

// Of the kinds of product that this context has run so far.
struct MatmulKinds {
  int all = 0;
  int by_table = 0;  // by a choice of a table's
};
MatmulKinds KindsRun(Context& context);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_MATMUL_TUNING_H_
