// Where the time of training goes, on one rank.
#ifndef ENTRAIN_LAUNCHER_STEP_TIMES_H_
#define ENTRAIN_LAUNCHER_STEP_TIMES_H_

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/mesh.h"
#include "runtime/device/timeline.h"

namespace entrain {

// Seconds. All but the two that say so are disjoint: what a section waited for a collective is in communication_exposed alone.
struct StepTimes {
  double data = 0.0;  // waiting for the prefetched batches
  double forward = 0.0;
  double entropy = 0.0;  // statistics and gates, their reduction not counted
  double backward = 0.0;
  double optimizer = 0.0;
  double communication_exposed = 0.0;  // in which this rank waited for collectives
  double communication_hidden = 0.0;   // not disjoint: they were under way while it computed
  double entropy_reduction = 0.0;      // not disjoint: of the exposed, that of entropies over dp
  double save = 0.0;                   // that the training loop lost to checkpoints

  void Add(const StepTimes& other);
  // {"data", seconds}, … in this order.
  std::vector<std::pair<const char*, double>> Named() const;
};

// "data 0 %, forward 31 %, …" of the sum of what is disjoint, then the share of communication that was hidden.
std::string Describe(const StepTimes& times);

// Charges time to one section at a time: that of the device where ops are issued to one, which may be ahead of them, and the
// host's for the reading of data.
class StepClock {
 public:
  using Section = double StepTimes::*;

  // Both must outlive it.
  StepClock(Context& context, const Mesh& mesh)
      : mesh_(mesh), timeline_(Timeline::Create(context)) {}

  // The host's time until Leave belongs to `section`.
  void EnterOnHost(Section section);
  void LeaveOnHost();

  // A step's ops begin. Where an OpGraph repeats them, they are in the sections that they were in when it was recorded.
  void BeginOps() { sections_.clear(); }
  // From the ops issued so far on, time belongs to `section`; null: to none.
  void Enter(Section section);
  // Times since the last Take. All ops must be done.
  StepTimes Take();

 private:
  using Clock = std::chrono::steady_clock;
  struct Entered {
    Section section;
    // Of the collectives that were waited for before, which the device may not have done yet.
    std::vector<std::shared_ptr<const CollectiveTime>> before;
  };

  void Charge(Section section, const CollectiveTime& before, const CollectiveTime& after,
              double seconds);

  const Mesh& mesh_;
  std::unique_ptr<Timeline> timeline_;
  StepTimes times_;
  std::vector<Entered> sections_;
  Section host_section_ = nullptr;
  Clock::time_point host_entered_;
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_STEP_TIMES_H_
