// What every communicator must do, whatever its backend: each function is run by all ranks of a world at once and fails
// the test on any of them. Values are small integers, so that sums are exact in any order, but where the order of
// summation itself is tested.
#ifndef ENTRAIN_TESTS_SUPPORT_COMMUNICATOR_CONTRACT_H_
#define ENTRAIN_TESTS_SUPPORT_COMMUNICATOR_CONTRACT_H_

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "parallel/comm/communicator.h"

namespace entrain {

using ContractCheck = std::pair<std::string, std::function<void(Communicator&)>>;

// By name, in a fixed order.
const std::vector<ContractCheck>& CommunicatorContract();

// A check and a number of ranks, and the name of a test with them.
using ContractCase = std::tuple<ContractCheck, int>;
inline std::string ContractCaseName(const ::testing::TestParamInfo<ContractCase>& info) {
  const auto& [check, ranks] = info.param;
  return check.first + "_" + std::to_string(ranks) + "Ranks";
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_COMMUNICATOR_CONTRACT_H_
