#include "launcher/step_times.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace entrain {
namespace {

struct Field {
  const char* name;
  double StepTimes::*value;
};
constexpr Field kFields[] = {{"data", &StepTimes::data},
                             {"forward", &StepTimes::forward},
                             {"entropy", &StepTimes::entropy},
                             {"backward", &StepTimes::backward},
                             {"optimizer", &StepTimes::optimizer},
                             {"communication_exposed", &StepTimes::communication_exposed},
                             {"communication_hidden", &StepTimes::communication_hidden},
                             {"entropy_reduction", &StepTimes::entropy_reduction},
                             {"save", &StepTimes::save}};

CollectiveTime Sum(const std::vector<std::shared_ptr<const CollectiveTime>>& times) {
  CollectiveTime sum;
  for (const auto& time : times) sum += *time;
  return sum;
}

}  // namespace

void StepTimes::Add(const StepTimes& other) {
  for (const Field& field : kFields) this->*field.value += other.*field.value;
}

std::vector<std::pair<const char*, double>> StepTimes::Named() const {
  std::vector<std::pair<const char*, double>> named;
  for (const Field& field : kFields) named.emplace_back(field.name, this->*field.value);
  return named;
}

std::string Describe(const StepTimes& times) {
  double sum = -times.communication_hidden - times.entropy_reduction;
  for (const auto& [name, seconds] : times.Named()) sum += seconds;
  auto share = [&](double seconds) { return 100.0 * seconds / std::max(sum, 1e-9); };
  std::string text = absl::StrFormat(
      "data %.1f %%, forward %.1f %%, entropy %.1f %%, backward %.1f %%, optimizer %.1f %%, save "
      "%.1f %%",
      share(times.data), share(times.forward), share(times.entropy), share(times.backward),
      share(times.optimizer), share(times.save));
  const double communication = times.communication_exposed + times.communication_hidden;
  if (communication > 0.0) {
    absl::StrAppendFormat(
        &text, ", waiting for communication %.1f %% (%.0f %% of communication was hidden)",
        share(times.communication_exposed), 100.0 * times.communication_hidden / communication);
  }
  return text;
}

void StepClock::EnterOnHost(Section section) {
  host_section_ = section;
  host_entered_ = Clock::now();
}

void StepClock::LeaveOnHost() {
  times_.*host_section_ += std::chrono::duration<double>(Clock::now() - host_entered_).count();
}

void StepClock::Enter(Section section) {
  timeline_->Mark(static_cast<int>(sections_.size()));
  sections_.push_back({section, mesh_.CollectiveTimesByNow()});
}

void StepClock::Charge(Section section, const CollectiveTime& before, const CollectiveTime& after,
                       double seconds) {
  const double exposed = after.exposed_seconds - before.exposed_seconds;
  const double under_way = after.under_way_seconds - before.under_way_seconds;
  times_.*section += std::max(0.0, seconds - exposed);
  times_.communication_exposed += exposed;
  // Its section waits for nothing else.
  if (section == &StepTimes::entropy) times_.entropy_reduction += exposed;
  // An operation is counted when it has been waited for, so here all of it that nobody waited for is hidden.
  times_.communication_hidden += std::max(0.0, under_way - exposed);
}

StepTimes StepClock::Take() {
  mesh_.collective_time();  // looks what the device has done since
  for (size_t i = 0; i + 1 < sections_.size(); ++i) {
    if (sections_[i].section == nullptr) continue;
    const auto point = static_cast<int>(i);
    Charge(sections_[i].section, Sum(sections_[i].before), Sum(sections_[i + 1].before),
           timeline_->Seconds(point, point + 1));
  }
  return std::exchange(times_, StepTimes());
}

}  // namespace entrain
