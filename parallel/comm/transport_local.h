// LocalTransport: ranks that are threads of one process. For tests, and for a world of one.
#ifndef ENTRAIN_PARALLEL_COMM_TRANSPORT_LOCAL_H_
#define ENTRAIN_PARALLEL_COMM_TRANSPORT_LOCAL_H_

#include <memory>
#include <vector>

#include "parallel/comm/transport.h"

namespace entrain {

// One transport a rank; each may be handed to a thread of its own.
std::vector<std::unique_ptr<Transport>> MakeLocalTransports(int size);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_TRANSPORT_LOCAL_H_
