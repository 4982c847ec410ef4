// Signals that ask a run to save and leave: remembered in a flag that the training loop reads
// between steps.
#ifndef ENTRAIN_LAUNCHER_SIGNALS_H_
#define ENTRAIN_LAUNCHER_SIGNALS_H_

#include <array>
#include <csignal>
#include <string>

namespace entrain {

// While it lives, SIGUSR1, SIGUSR2 and SIGTERM only set a flag; system calls that they interrupt
// are restarted. Its end restores the handlers that were there. At most one in a process at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // The first signal that came since the start, 0 when none did.
  int received() const;

 private:
  static constexpr std::array<int, 3> kSignals{SIGUSR1, SIGUSR2, SIGTERM};
  std::array<struct sigaction, kSignals.size()> previous_{};
};

// "SIGUSR1"; "signal 99" for one without a name.
std::string SignalName(int signal);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_SIGNALS_H_
