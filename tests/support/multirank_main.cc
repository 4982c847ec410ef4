// main of tests that run under mpirun: refuses a world of another size than --ranks=N (a launcher that falls back to
// single processes would otherwise pass), prints as one, and every rank returns the worst result.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "parallel/comm/communicator_host.h"
#include "parallel/comm/transport_mpi.h"
#include "tests/support/multirank_world.h"

namespace entrain {
namespace {

std::unique_ptr<Communicator> world;

// Ranks other than 0 tell their failures only.
class FailurePrinter : public ::testing::EmptyTestEventListener {
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::printf("rank %d: %s:%d: %s\n", world->rank(), result.file_name(), result.line_number(),
                result.message());
  }
};

int Run(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  int expected = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--ranks=", 8) == 0) expected = std::atoi(argv[i] + 8);
  }
  absl::StatusOr<MpiWorld> mpi = JoinMpiWorld();
  if (!mpi.ok()) {
    std::fprintf(stderr, "%s\n", mpi.status().ToString().c_str());
    return 1;
  }
  world = MakeHostCommunicator(std::move(mpi->transport),
                               {.timeouts = {.wait_seconds = 120.0}, .monitor_peers = true});
  if (world->size() != expected) {
    std::fprintf(stderr, "a world of %d, wanted --ranks=%d: run it under mpirun -n N\n",
                 world->size(), expected);
    world.reset();
    return 1;
  }
  if (world->rank() != 0) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter);
  }
  int32_t result = RUN_ALL_TESTS();
  world->AllReduce({&result, DType::kI32, {1}}, ReduceOp::kMax, "results of the tests");
  world.reset();
  return result;
}

}  // namespace

Communicator& MultirankWorld() { return *world; }

}  // namespace entrain

int main(int argc, char** argv) { return entrain::Run(argc, argv); }
