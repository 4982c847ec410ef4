// NcclRanks: an NCCL communicator with its stream, and the calls that a collective is made of.
#ifndef ENTRAIN_PARALLEL_COMM_RANKS_NCCL_H_
#define ENTRAIN_PARALLEL_COMM_RANKS_NCCL_H_

#include <cuda_runtime.h>
#include <nccl.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/engine_nccl.h"
#include "runtime/kernels/cuda_scratch.h"

namespace entrain {

class NcclRanks {
 public:
  // The ranks of `host`; collective over them.
  NcclRanks(std::shared_ptr<NcclEngine> engine, Communicator& host);
  // Collective. Nothing may be under way.
  ~NcclRanks();
  NcclRanks(const NcclRanks&) = delete;
  NcclRanks& operator=(const NcclRanks&) = delete;

  cudaStream_t stream() const { return stream_; }
  // Without this one, as ranks of the world.
  const std::vector<int>& others() const { return others_; }

  // Issued to the stream when they return, in place. `name`: the operation's, for messages.
  void AllReduce(const std::string& name, const TensorView& x, ReduceOp op);
  void ReduceScatter(const std::string& name, const TensorView& x,
                     const std::vector<ElementRange>& ranges);
  void AllGather(const std::string& name, const TensorView& x,
                 const std::vector<ElementRange>& ranges);
  void Broadcast(const std::string& name, const TensorView& x, int root);

 private:
  void FindOthers(Communicator& host);
  void Connect(Communicator& host);
  void Call(const std::string& name, const std::function<ncclResult_t()>& call) {
    engine_->Call(name, others_, &comm_, call);
  }
  ncclResult_t ReduceEven(const TensorView& x, const std::vector<ElementRange>& ranges) const;
  ncclResult_t ReduceEach(const TensorView& x, const std::vector<ElementRange>& ranges) const;
  ncclResult_t GatherEven(const TensorView& x, const std::vector<ElementRange>& ranges) const;
  ncclResult_t GatherEach(const TensorView& x, const std::vector<ElementRange>& ranges) const;
  // Of a vector in bf16 every range becomes the sum in rank order where it is owned.
  void SumAtOwners(const std::string& name, const TensorView& x,
                   const std::vector<ElementRange>& ranges);
  ncclResult_t ExchangeParts(const TensorView& x, const std::vector<ElementRange>& ranges,
                             Bf16* arrived, int64_t stride) const;
  const ElementRange& Mine(const std::vector<ElementRange>& ranges) const {
    return ranges[static_cast<size_t>(rank_)];
  }

  std::shared_ptr<NcclEngine> engine_;
  int rank_;
  int size_;
  std::vector<int> others_;
  cudaStream_t stream_ = nullptr;
  ncclComm_t comm_ = nullptr;
  cuda::CudaScratch
      arrived_;  // parts of this rank's range; one operation at a time is on the stream
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_RANKS_NCCL_H_
