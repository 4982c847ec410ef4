// The world of a test that runs under mpirun.
#ifndef ENTRAIN_TESTS_SUPPORT_MULTIRANK_WORLD_H_
#define ENTRAIN_TESTS_SUPPORT_MULTIRANK_WORLD_H_

#include "parallel/comm/communicator.h"

namespace entrain {

// All ranks of this mpirun. There from before the first test to after the last.
Communicator& MultirankWorld();

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_MULTIRANK_WORLD_H_
