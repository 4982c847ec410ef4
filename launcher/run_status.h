// RunStatus: what is known of a run at a moment, for those who watch it and for its verdict.
#ifndef ENTRAIN_LAUNCHER_RUN_STATUS_H_
#define ENTRAIN_LAUNCHER_RUN_STATUS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/base/enum_table.h"

namespace entrain {

// What a run is doing. Each has a deadline of its own.
enum class RunPhase { kStartup, kStep, kSave, kEnd };
inline constexpr EnumTable<RunPhase, 4> kRunPhaseNames{{{{RunPhase::kStartup, "startup"},
                                                         {RunPhase::kStep, "step"},
                                                         {RunPhase::kSave, "save"},
                                                         {RunPhase::kEnd, "end"}}}};

// What is known of a run at a moment.
struct RunStatus {
  RunPhase phase = RunPhase::kStartup;
  int64_t step = 0;  // optimizer steps done
  std::optional<double> loss;
  std::optional<int64_t> last_commit;  // step of the newest committed checkpoint
  std::string checkpoint;              // its path, "" without one
  double phase_seconds = 0.0;          // since the phase began
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_RUN_STATUS_H_
