// Statistics and tables of heads over the mesh: summed over dp, whose ranks have other sequences; gathered over tp, whose ranks
// have other heads.
#ifndef ENTRAIN_LAUNCHER_ENTROPY_OVER_RANKS_H_
#define ENTRAIN_LAUNCHER_ENTROPY_OVER_RANKS_H_

#include "model/entropy_statistics.h"
#include "parallel/comm/communicator.h"

namespace entrain {

// Over the rows of all ranks, the same on each.
EntropyStatistics SumOverRanks(const EntropyStatistics& mine, Communicator& dp);

// Of the heads of all ranks in their order, the same on each.
EntropyStatistics GatherHeads(const EntropyStatistics& mine, Communicator& tp);
HeadTable GatherHeads(const HeadTable& mine, Communicator& tp);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_ENTROPY_OVER_RANKS_H_
