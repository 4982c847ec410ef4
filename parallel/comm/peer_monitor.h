// PeerMonitor: finds within seconds that the process of another rank is stopped, or gone with its host.
//
// The ranks form a ring. Each sends its successor a beat now and then, and expects those of its predecessor, whatever its own
// computation does or waits for: so a rank that computes for long is told from one that is no more. Two messages of four
// bytes a rank and second, for any number of ranks.
#ifndef ENTRAIN_PARALLEL_COMM_PEER_MONITOR_H_
#define ENTRAIN_PARALLEL_COMM_PEER_MONITOR_H_

#include <chrono>
#include <cstdint>

#include "parallel/comm/transport.h"

namespace entrain {

class PeerMonitor {
 public:
  using Clock = std::chrono::steady_clock;

  // Beats have a tag of their own. `transport` of at least two ranks must outlive the monitor; every call is one of the
  // transport's user, so it is made under the same lock.
  PeerMonitor(Transport& transport, int tag, Clock::time_point now);
  PeerMonitor(const PeerMonitor&) = delete;  // messages under way know its memory
  PeerMonitor& operator=(const PeerMonitor&) = delete;

  int predecessor() const;

  // Sends and receives what is due. To be called several times in `kInterval`.
  void Beat(Clock::time_point now);
  // Seconds since the last sign of the predecessor in which this process itself was running: one that was stopped, with the
  // whole job perhaps, blames nobody.
  double Silence(Clock::time_point now) const;

  // The last beat, after which none is awaited. Then Beat until Left: no message may be under way when the transport ends.
  void SayFarewell();
  bool Left() const;

  static constexpr std::chrono::milliseconds kInterval{1000};

 private:
  enum BeatKind : int32_t { kAlive = 1, kFarewell = 2 };
  void Send(BeatKind kind);

  Transport& transport_;
  int tag_;
  int32_t sent_ = kAlive;
  int32_t received_ = kAlive;
  Transport::Message sending_ = -1;
  Transport::Message receiving_ = -1;
  bool farewell_asked_ = false;
  bool farewell_sent_ = false;
  Clock::time_point last_sent_;
  Clock::time_point last_heard_;
  Clock::time_point last_called_;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_PEER_MONITOR_H_
