// Collectives on GPU memory by NCCL, one rank a GPU. No other file needs to know NCCL's interface.
//
//     ops' stream ──●─ Start ───────────────────── Wait ─●── …      ● event: one stream waits for the other, the host for none
//                    ╲                              ╱
//     own stream      ●── NCCL's kernels ──────────●
//
// - What NCCL sums it sums in its own order: the same on all ranks, and on every run with the same ranks, sizes and settings
//   when `deterministic` (ring, one protocol, no reduction in the switch), but not in rank order. What travels as bf16 it
//   would round at every hop. So bf16 is exchanged, each rank's part of every range to its owner, summed there in rank order in fp32,
//   rounded once, and gathered: the bytes of a ring on one host, and the bits of the host's collectives. (In fp32 on the wire it
//   would be twice the bytes, and bf16 is asked for to have fewer. Between hosts a ring would have less: gradients of
//   several hosts may rather travel as fp32.)
// - Communicators are non-blocking: no call waits for another rank without a time-out. A thread watches operations under way
//   and NCCL's errors, for the host may be far ahead, or wait for the device in a call that knows no time-out.
// - A failure ends the process as one of the host's collectives does (rank_failure.h), after a moment for who knows more of it. ncclCommAbort would not help: what it
//   frees ends with the process, and it may hang.
#ifndef ENTRAIN_PARALLEL_COMM_COMMUNICATOR_NCCL_H_
#define ENTRAIN_PARALLEL_COMM_COMMUNICATOR_NCCL_H_

#include <memory>
#include <string>

#include "parallel/comm/communicator.h"
#include "runtime/base/status.h"
#include "runtime/device/context.h"

namespace entrain {

// "2.28.9": of the library that was found, or why there is none.
absl::StatusOr<std::string> NcclVersion();
// Sets NCCL's environment variables, those that the user has not set, before the first communicator: an order among the
// communicators of a process and, when deterministic, fixed ways to sum. Returns them: "NCCL_ALGO=Ring, …".
std::string SetUpNccl(bool deterministic);
// The same without where a value comes from: what all ranks must have alike, or they wait for each other in different algorithms.
std::string NcclSettings(bool deterministic);

// What the communicators of a process share.
class NcclEngine;
// `context` must outlive it. `world`: of all ranks, in host memory; asked for this rank's number only.
std::shared_ptr<NcclEngine> MakeNcclEngine(Context& context, Communicator& world,
                                           const CommTimeouts& timeouts);

// Over the ranks of `host`, which must outlive it; collective over them. Max and min treat what is not a number as NCCL does.
std::unique_ptr<Communicator> MakeNcclCommunicator(std::shared_ptr<NcclEngine> engine,
                                                   Communicator& host);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_COMMUNICATOR_NCCL_H_
