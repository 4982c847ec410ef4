// Transport: messages between the ranks of the world. All that a host backend must bring; collectives are made of it in
// one place (communicator_host).
//
// Messages between two ranks with the same tag arrive in the order in which they were sent; lengths must agree. Calls come
// from one thread at a time.
#ifndef ENTRAIN_PARALLEL_COMM_TRANSPORT_H_
#define ENTRAIN_PARALLEL_COMM_TRANSPORT_H_

#include <cstdint>
#include <string>

namespace entrain {

// The largest message: what is longer is cut by the caller.
inline constexpr int64_t kMaxMessageBytes = int64_t{1} << 30;
// Tags are in [0, kMaxTag]: what MPI guarantees.
inline constexpr int kMaxTag = 32767;

class Transport {
 public:
  // A message under way. -1: none.
  using Message = int64_t;

  virtual ~Transport() = default;
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // "2 of 4 on node17": for messages.
  virtual std::string Describe() const = 0;

  // The memory belongs to the message until Done says so.
  virtual Message Send(int to, int tag, const void* data, int64_t bytes) = 0;
  virtual Message Receive(int from, int tag, void* data, int64_t bytes) = 0;
  // True when the message is complete; it is then forgotten: ask once more is an error.
  virtual bool Done(Message message) = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_TRANSPORT_H_
