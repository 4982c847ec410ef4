// How the communicators of one world share a transport's tags.
#ifndef ENTRAIN_PARALLEL_COMM_COMMUNICATOR_LIMITS_H_
#define ENTRAIN_PARALLEL_COMM_COMMUNICATOR_LIMITS_H_

#include "parallel/comm/transport.h"

namespace entrain {

inline constexpr int kMaxCommunicators = 32;
// Operations of one communicator that may be under way at a time.
inline constexpr int kMaxPending = kMaxTag / kMaxCommunicators;
inline constexpr int kBeatTag = kMaxTag;
static_assert(kBeatTag >= kMaxCommunicators * kMaxPending);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_COMMUNICATOR_LIMITS_H_
