// Worlds of ranks that are threads of the test.
#ifndef ENTRAIN_TESTS_SUPPORT_LOCAL_RANKS_H_
#define ENTRAIN_TESTS_SUPPORT_LOCAL_RANKS_H_

#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "parallel/comm/communicator_host.h"
#include "parallel/comm/transport_local.h"

namespace entrain {

// Runs body(world) on `ranks` threads, each with its own communicator; returns when all have.
inline void OnLocalRanks(int ranks,
                         const std::function<void(std::unique_ptr<Communicator> world)>& body,
                         const HostCommunicatorOptions& options = {}) {
  auto transports = MakeLocalTransports(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      body(MakeHostCommunicator(std::move(transports[static_cast<size_t>(r)]), options));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// The same for a body that does not keep its communicator.
inline void RunLocalRanks(int ranks, const std::function<void(Communicator& world)>& body,
                          const HostCommunicatorOptions& options = {}) {
  OnLocalRanks(
      ranks, [&](std::unique_ptr<Communicator> world) { body(*world); }, options);
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_LOCAL_RANKS_H_
