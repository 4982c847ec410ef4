// What happens when a collective cannot be completed: the process reports and ends at once.
//
// There is no way back: the peers are inside other operations, or gone, and a graceful end would hang in them. The launcher
// (mpirun, srun -K) ends the other ranks; the run continues from its last checkpoint.
#ifndef ENTRAIN_PARALLEL_COMM_COMM_FAILURE_H_
#define ENTRAIN_PARALLEL_COMM_COMM_FAILURE_H_

#include <string>

namespace entrain {

// Prints "entrain: rank <rank>: <what happened>" on standard error, flushes, and ends the process with code 1, running no
// destructor.
[[noreturn]] void FailCommunication(const std::string& rank, const std::string& what_happened);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_COMM_FAILURE_H_
