// Entropies and their maxima for the tests of the penalty.
#ifndef ENTRAIN_TESTS_SUPPORT_PENALTY_OPERANDS_H_
#define ENTRAIN_TESTS_SUPPORT_PENALTY_OPERANDS_H_

#include <cmath>
#include <cstdint>

#include "tests/support/test_tensor.h"

namespace entrain {

// log i of row i.
inline double MaxEntropyAt(int64_t position) { return std::log(static_cast<double>(position + 1)); }

// Of [0.4, 1] of the largest; i counts elements of [.., T].
inline double EntropyAt(int64_t i, int64_t positions) {
  const double part = 0.7 + 0.3 * std::tanh(NormalAt(7, 1, static_cast<uint64_t>(i)));
  return part * MaxEntropyAt(i % positions);
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_PENALTY_OPERANDS_H_
