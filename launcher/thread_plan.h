// ThreadPlan: how many threads a rank computes with, where that number comes from, and what about it is likely a mistake.
#ifndef ENTRAIN_LAUNCHER_THREAD_PLAN_H_
#define ENTRAIN_LAUNCHER_THREAD_PLAN_H_

#include <string>
#include <vector>

namespace entrain {

// What a rank may compute on, and with whom it shares that.
struct HostCores {
  int mine = 1;     // in this rank's affinity mask
  int of_ours = 1;  // in the mask of any rank of this run on this host
  int of_host = 1;
  int ranks = 1;  // of this run on this host
};

struct ThreadPlan {
  int threads = 1;
  std::string text;                // "1 a rank: the 2 ranks of this host share its 2 cores"
  std::vector<std::string> notes;  // too many threads for the cores, a rank bound to one core
};

// `asked`: train.threads; 0 leaves it open: then the cores that the rank may use, shared with the ranks of this host that may
// use the same ones. `launcher`: its name, or "".
ThreadPlan PlanThreads(int asked, const HostCores& cores, const std::string& launcher);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_THREAD_PLAN_H_
