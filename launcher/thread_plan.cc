#include "launcher/thread_plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace entrain {
namespace {

// mpirun's default, which few expect.
constexpr char kBinding[] =
    "mpirun binds one or two ranks to a core each unless --bind-to none is given";

std::string Count(int n, const char* noun) { return absl::StrCat(n, " ", noun, n == 1 ? "" : "s"); }

// Masks that do not overlap are a rank's own.
bool AreShared(const HostCores& cores) { return cores.mine * cores.ranks > cores.of_ours; }

// "4 cores", "4 of 16 cores"
std::string OfHost(const HostCores& cores) {
  if (cores.of_ours == cores.of_host) return Count(cores.of_host, "core");
  return absl::StrCat(cores.of_ours, " of ", Count(cores.of_host, "core"));
}

std::string Source(bool asked, const HostCores& cores) {
  if (asked) return "train.threads";
  if (!AreShared(cores)) return "one for each core that it may use";
  return absl::StrCat("the ", cores.ranks, " ranks of this host share ", OfHost(cores));
}

std::string TooMany(int threads, bool asked, const HostCores& cores) {
  std::string advice = "start fewer ranks";
  if (asked && threads > 1) {
    advice = cores.ranks == 1 ? "lower train.threads" : "lower train.threads or " + advice;
  }
  return absl::StrCat(Count(cores.ranks, "rank"), " x ", Count(threads, "thread"), " share ",
                      OfHost(cores), " of this host: ", advice);
}

}  // namespace

ThreadPlan PlanThreads(int asked, const HostCores& cores, const std::string& launcher) {
  ThreadPlan plan{.threads = asked};
  if (asked == 0) plan.threads = AreShared(cores) ? cores.of_ours / cores.ranks : cores.mine;
  plan.threads = std::max(1, plan.threads);
  plan.text = absl::StrCat(plan.threads, " a rank: ", Source(asked > 0, cores));
  const bool bound = launcher == "mpirun" && cores.of_ours < cores.of_host;
  if (cores.ranks * plan.threads > cores.of_ours) {
    plan.notes.push_back(TooMany(plan.threads, asked > 0, cores));
    if (bound) absl::StrAppend(&plan.notes.back(), "; ", kBinding);
  } else if (bound && cores.mine == 1 && asked == 0) {
    plan.notes.push_back(
        absl::StrCat("a rank may use 1 of the ", cores.of_host, " cores of this host: ", kBinding));
  }
  return plan;
}

}  // namespace entrain
