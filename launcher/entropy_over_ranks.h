// Statistics and tables of heads over the mesh: summed over dp, whose ranks have other sequences; gathered over tp, whose ranks
// have other heads.
#ifndef ENTRAIN_LAUNCHER_ENTROPY_OVER_RANKS_H_
#define ENTRAIN_LAUNCHER_ENTROPY_OVER_RANKS_H_

#include <vector>

#include "model/entropy_statistics.h"
#include "parallel/comm/communicator.h"

namespace entrain {

// Moments become those of the rows of all ranks, in place, while ops go on.
class MomentsOverRanks {
 public:
  // Begins. `dp`, for memory of the moments' device, must outlive it.
  MomentsOverRanks(const HeadMoments& moments, Communicator& dp);

  // To be called before it is destroyed.
  void Wait();

 private:
  PendingCollective summing_;  // without other ranks there is none
  PendingCollective comparing_;
};

// The same of statistics of the host.
EntropyStatistics SumOverRanks(const EntropyStatistics& mine, Communicator& dp);

// Of the heads of all ranks in their order, the same on each.
EntropyStatistics GatherHeads(const EntropyStatistics& mine, Communicator& tp);
HeadTable GatherHeads(const HeadTable& mine, Communicator& tp);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_ENTROPY_OVER_RANKS_H_
