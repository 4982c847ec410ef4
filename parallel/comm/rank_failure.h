// What happens when a rank cannot go on and cannot come back: it reports and ends at once.
//
// A collective that cannot be completed, a peer that is gone, a deadline that has passed: the other ranks are inside
// operations of their own, and a graceful end would hang in them. The launcher (mpirun, srun -K1) ends the other ranks; the
// run continues from its last checkpoint.
#ifndef ENTRAIN_PARALLEL_COMM_RANK_FAILURE_H_
#define ENTRAIN_PARALLEL_COMM_RANK_FAILURE_H_

#include <functional>
#include <string>

namespace entrain {

// Prints "entrain: rank <rank>: <what happened>" on standard error, flushes, calls the hook, and ends the process with code
// 1, running no destructor. May be called by any thread, holding any lock: of several calls the first one speaks.
[[noreturn]] void FailRank(const std::string& rank, const std::string& what_happened);

// What is done between the message and the end, as leaving a verdict. It may not wait for another rank or take a lock that a
// caller of FailRank may hold; after ten seconds the process ends without it. An empty one: nothing.
using FailureHook = std::function<void(const std::string& message)>;
void SetFailureHook(FailureHook hook);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_RANK_FAILURE_H_
