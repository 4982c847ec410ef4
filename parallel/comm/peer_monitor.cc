#include "parallel/comm/peer_monitor.h"

#include "runtime/base/check.h"
#include "runtime/base/clock.h"

namespace entrain {

PeerMonitor::PeerMonitor(Transport& transport, int tag, Clock::time_point now)
    : transport_(transport), tag_(tag), last_heard_(now), last_called_(now) {
  CHECK_GT(transport.size(), 1);
  receiving_ = transport_.Receive(predecessor(), tag_, &received_, sizeof(int32_t));
}

int PeerMonitor::predecessor() const {
  return (transport_.rank() + transport_.size() - 1) % transport_.size();
}

void PeerMonitor::Beat(Clock::time_point now) {
  // Not called for so long: this process was stopped, or had no core. Its predecessor's beats may wait in the transport.
  if (now - last_called_ > 2 * kInterval) last_heard_ = now;
  last_called_ = now;
  while (receiving_ >= 0 && transport_.Done(receiving_)) {
    last_heard_ = now;
    receiving_ = -1;
    if (received_ == kFarewell) break;
    receiving_ = transport_.Receive(predecessor(), tag_, &received_, sizeof(int32_t));
  }
  // One at a time: to a successor that is stopped beats would pile up.
  if (sending_ >= 0 && !transport_.Done(sending_)) return;
  sending_ = -1;
  if (farewell_sent_) return;
  if (farewell_asked_) {
    Send(kFarewell);
    farewell_sent_ = true;
  } else if (now - last_sent_ >= kInterval) {
    Send(kAlive);
    last_sent_ = now;
  }
}

void PeerMonitor::Send(BeatKind kind) {
  sent_ = kind;
  const int successor = (transport_.rank() + 1) % transport_.size();
  sending_ = transport_.Send(successor, tag_, &sent_, sizeof(int32_t));
}

double PeerMonitor::Silence(Clock::time_point now) const {
  if (receiving_ < 0) return 0.0;  // it has said farewell
  return SecondsBetween(last_heard_, now);
}

void PeerMonitor::SayFarewell() { farewell_asked_ = true; }

bool PeerMonitor::Left() const { return farewell_sent_ && sending_ < 0 && receiving_ < 0; }

}  // namespace entrain
