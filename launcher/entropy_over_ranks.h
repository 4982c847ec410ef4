// Statistics and tables of heads over the mesh: summed over dp, whose ranks have other sequences; gathered over tp, whose ranks
// have other heads.
#ifndef ENTRAIN_LAUNCHER_ENTROPY_OVER_RANKS_H_
#define ENTRAIN_LAUNCHER_ENTROPY_OVER_RANKS_H_

#include <vector>

#include "model/entropy_statistics.h"
#include "parallel/comm/communicator.h"

namespace entrain {

// A sum over the rows of all ranks, under way; the same on each.
class StatisticsSum {
 public:
  // Begins. `dp` must outlive it.
  StatisticsSum(EntropyStatistics mine, Communicator& dp);
  StatisticsSum(const StatisticsSum&) = delete;  // what is under way knows its memory
  StatisticsSum& operator=(const StatisticsSum&) = delete;

  // The sum, once. To be called before it is destroyed.
  EntropyStatistics Wait();

 private:
  EntropyStatistics all_;
  std::vector<double> sums_;
  std::vector<float> extremes_;
  PendingCollective summing_;  // without other ranks there is none
  PendingCollective comparing_;
};

inline EntropyStatistics SumOverRanks(const EntropyStatistics& mine, Communicator& dp) {
  return StatisticsSum(mine, dp).Wait();
}

// Of the heads of all ranks in their order, the same on each.
EntropyStatistics GatherHeads(const EntropyStatistics& mine, Communicator& tp);
HeadTable GatherHeads(const HeadTable& mine, Communicator& tp);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_ENTROPY_OVER_RANKS_H_
