// The communicator's contract among MPI processes.
#include <gtest/gtest.h>

#include "tests/support/communicator_contract.h"
#include "tests/support/multirank_world.h"

namespace entrain {
namespace {

class MpiContractTest : public ::testing::TestWithParam<ContractCheck> {};

TEST_P(MpiContractTest, Holds) { GetParam().second(MultirankWorld()); }

INSTANTIATE_TEST_SUITE_P(All, MpiContractTest, ::testing::ValuesIn(CommunicatorContract()),
                         [](const auto& info) { return info.param.first; });

}  // namespace
}  // namespace entrain
