// NcclEngine: this process's calls of NCCL, the operations under way, and the thread that watches over them.
#ifndef ENTRAIN_PARALLEL_COMM_ENGINE_NCCL_H_
#define ENTRAIN_PARALLEL_COMM_ENGINE_NCCL_H_

#include <nccl.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/communicator.h"
#include "runtime/base/clock.h"
#include "runtime/device/context.h"
#include "runtime/device/cuda_event.h"

namespace entrain {

// A collective on a communicator's stream, as its waiter and the engine share it.
struct NcclOperation {
  std::string name;         // "gradient bucket 3 over dp"
  std::vector<int> others;  // ranks of the world
  SteadyClock::time_point started;
  // On the communicator's stream, around it. ended counts when issued.
  CudaEvent begun{CudaEvent::Timing::kOn};
  CudaEvent ended{CudaEvent::Timing::kOn};
  std::atomic<bool> issued = false;
  // On the ops' stream, around its wait for it.
  CudaEvent halted{CudaEvent::Timing::kOn};
  CudaEvent resumed{CudaEvent::Timing::kOn};
  // Of the watching thread: when it saw that the ops before it are done.
  std::optional<SteadyClock::time_point> seen_begun;
};

class NcclEngine {
 public:
  NcclEngine(Context& context, Communicator& world, const CommTimeouts& timeouts);
  ~NcclEngine();
  NcclEngine(const NcclEngine&) = delete;
  NcclEngine& operator=(const NcclEngine&) = delete;

  Context& context() { return context_; }
  int world_rank() const { return world_rank_; }

  // Makes a call of NCCL, or a group of them, on *comm (null until the call has made it), and returns when NCCL has it done or
  // issued: work that is given to a stream afterwards comes behind. Ends the process when it fails, or has not after the time-out.
  void Call(const std::string& name, const std::vector<int>& others, ncclComm_t* comm,
            const std::function<ncclResult_t()>& call);

  // From the beginning of an operation until it is done.
  void Watch(std::shared_ptr<NcclOperation> operation);
  // For errors that come later than calls.
  void Watch(ncclComm_t comm);
  void Forget(ncclComm_t comm);

  void SetTimeouts(const CommTimeouts& timeouts) { wait_seconds_ = timeouts.wait_seconds; }
  WorldOperation LastOperation();

 private:
  void Await(const std::string& name, const std::vector<int>& others, ncclComm_t comm);
  [[noreturn]] void Fail(const std::string& name, const std::string& what) const;
  void LetOthersSpeak() const;
  void CheckResult(const std::string& name, ncclResult_t result, ncclComm_t comm) const;
  double Limit() const;
  void RunThread();
  void CheckOperations();
  // True when it is done.
  bool Check(NcclOperation& operation) const;
  void CheckCommunicators();

  Context& context_;
  const int world_rank_;
  const std::string rank_text_;  // "2 of 4 on node17"
  std::atomic<double> wait_seconds_;

  std::mutex nccl_mutex_;  // NCCL's calls: one at a time
  std::vector<ncclComm_t> comms_;

  std::mutex mutex_;  // of what follows; never held while something else is waited for
  std::condition_variable wake_;
  bool stopping_ = false;
  std::list<std::shared_ptr<NcclOperation>> under_way_;
  WorldOperation last_started_;
  std::thread thread_;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_ENGINE_NCCL_H_
