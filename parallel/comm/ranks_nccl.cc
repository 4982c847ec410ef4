#include "parallel/comm/ranks_nccl.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "parallel/comm/library_nccl.h"
#include "parallel/comm/ordered_sum_cuda.h"
#include "runtime/device/cuda_check.h"

namespace entrain {
namespace {

// Of ranges that are summed here, in elements: so that the sums may take several at a time.
constexpr int64_t kAligned = 64;

ncclDataType_t TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kBf16:
      return ncclBfloat16;
    case DType::kI32:
      return ncclInt32;
    case DType::kF64:
      return ncclFloat64;
  }
  return ncclFloat32;
}

ncclRedOp_t OperatorOf(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return ncclSum;
    case ReduceOp::kMax:
      return ncclMax;
    case ReduceOp::kMin:
      return ncclMin;
  }
  return ncclSum;
}

std::byte* At(const TensorView& x, int64_t element) {
  return static_cast<std::byte*>(x.raw()) + element * SizeOf(x.dtype());
}

// Whether the ranges are of one size and touch: what NCCL's own operations take.
bool AreEven(const std::vector<ElementRange>& ranges) {
  for (size_t r = 1; r < ranges.size(); ++r) {
    if (ranges[r].size() != ranges[0].size() || ranges[r].begin != ranges[r - 1].end) return false;
  }
  return true;
}

bool AreEmpty(const std::vector<ElementRange>& ranges) {
  return std::all_of(ranges.begin(), ranges.end(),
                     [](const ElementRange& range) { return range.size() == 0; });
}

// Several calls that NCCL issues as one.
class Group {
 public:
  Group() : result_(nccl::Library().group_start()) {}
  void Add(ncclResult_t result) {
    if (result_ == ncclSuccess && result != ncclInProgress) result_ = result;
  }
  ncclResult_t End() {
    const ncclResult_t end = nccl::Library().group_end();
    return result_ == ncclSuccess ? end : result_;
  }

 private:
  ncclResult_t result_;
};

}  // namespace

NcclRanks::NcclRanks(std::shared_ptr<NcclEngine> engine, Communicator& host)
    : engine_(std::move(engine)), rank_(host.rank()), size_(host.size()) {
  FindOthers(host);
  int least = 0;
  int greatest = 0;
  CHECK_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  // Other ranks wait for what is sent; ops that compute beside it do not mind.
  CHECK_CUDA(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest));
  Connect(host);
  engine_->Watch(comm_);
}

void NcclRanks::FindOthers(Communicator& host) {
  std::vector<int32_t> ranks(static_cast<size_t>(size_));
  ranks[static_cast<size_t>(rank_)] = engine_->world_rank();
  host.AllGather({ranks.data(), DType::kI32, {size_}}, EvenRanges(size_, size_),
                 "ranks of " + host.name());
  std::erase(ranks, engine_->world_rank());
  others_.assign(ranks.begin(), ranks.end());
}

void NcclRanks::Connect(Communicator& host) {
  const std::string what = absl::StrCat("start of NCCL over ", host.name());
  ncclUniqueId id;
  std::string text;
  if (rank_ == 0) {
    Call(what, [&] { return nccl::Library().get_unique_id(&id); });
    text.assign(id.internal, sizeof(id.internal));
  }
  host.BroadcastText(&text, 0, what);
  std::memcpy(id.internal, text.data(), sizeof(id.internal));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  Call(what,
       [&] { return nccl::Library().comm_init_rank_config(&comm_, size_, id, rank_, &config); });
}

NcclRanks::~NcclRanks() {
  engine_->Forget(comm_);
  Call("end of NCCL", [this] { return nccl::Library().comm_finalize(comm_); });
  Call("end of NCCL",
       [this] { return nccl::Library().comm_destroy(std::exchange(comm_, nullptr)); });
  cudaStreamDestroy(stream_);
}

void NcclRanks::Broadcast(const std::string& name, const TensorView& x, int root) {
  if (x.size() == 0) return;
  Call(name, [&] {
    return nccl::Library().broadcast(x.raw(), x.raw(), static_cast<size_t>(x.size()),
                                     TypeOf(x.dtype()), root, comm_, stream_);
  });
}

void NcclRanks::AllReduce(const std::string& name, const TensorView& x, ReduceOp op) {
  if (x.size() == 0) return;
  if (x.dtype() == DType::kBf16 && op == ReduceOp::kSum) {
    const std::vector<ElementRange> ranges = EvenRanges(x.size(), size_, kAligned);
    SumAtOwners(name, x, ranges);
    return AllGather(name, x, ranges);
  }
  Call(name, [&] {
    return nccl::Library().all_reduce(x.raw(), x.raw(), static_cast<size_t>(x.size()),
                                      TypeOf(x.dtype()), OperatorOf(op), comm_, stream_);
  });
}

void NcclRanks::ReduceScatter(const std::string& name, const TensorView& x,
                              const std::vector<ElementRange>& ranges) {
  if (AreEmpty(ranges)) return;
  if (x.dtype() == DType::kBf16) return SumAtOwners(name, x, ranges);
  Call(name, [&] { return AreEven(ranges) ? ReduceEven(x, ranges) : ReduceEach(x, ranges); });
}

ncclResult_t NcclRanks::ReduceEven(const TensorView& x,
                                   const std::vector<ElementRange>& ranges) const {
  return nccl::Library().reduce_scatter(At(x, ranges[0].begin), At(x, Mine(ranges).begin),
                                        static_cast<size_t>(Mine(ranges).size()), TypeOf(x.dtype()),
                                        ncclSum, comm_, stream_);
}

ncclResult_t NcclRanks::ReduceEach(const TensorView& x,
                                   const std::vector<ElementRange>& ranges) const {
  Group group;
  for (int r = 0; r < size_; ++r) {
    const ElementRange& range = ranges[static_cast<size_t>(r)];
    if (range.size() == 0) continue;
    group.Add(nccl::Library().reduce(At(x, range.begin), At(x, range.begin),
                                     static_cast<size_t>(range.size()), TypeOf(x.dtype()), ncclSum,
                                     r, comm_, stream_));
  }
  return group.End();
}

void NcclRanks::AllGather(const std::string& name, const TensorView& x,
                          const std::vector<ElementRange>& ranges) {
  if (AreEmpty(ranges)) return;
  Call(name, [&] { return AreEven(ranges) ? GatherEven(x, ranges) : GatherEach(x, ranges); });
}

ncclResult_t NcclRanks::GatherEven(const TensorView& x,
                                   const std::vector<ElementRange>& ranges) const {
  return nccl::Library().all_gather(At(x, Mine(ranges).begin), At(x, ranges[0].begin),
                                    static_cast<size_t>(Mine(ranges).size()), TypeOf(x.dtype()),
                                    comm_, stream_);
}

ncclResult_t NcclRanks::GatherEach(const TensorView& x,
                                   const std::vector<ElementRange>& ranges) const {
  Group group;
  for (int r = 0; r < size_; ++r) {
    const ElementRange& range = ranges[static_cast<size_t>(r)];
    if (range.size() == 0) continue;
    group.Add(nccl::Library().broadcast(At(x, range.begin), At(x, range.begin),
                                        static_cast<size_t>(range.size()), TypeOf(x.dtype()), r,
                                        comm_, stream_));
  }
  return group.End();
}

void NcclRanks::SumAtOwners(const std::string& name, const TensorView& x,
                            const std::vector<ElementRange>& ranges) {
  const ElementRange mine = Mine(ranges);
  const int64_t stride = (mine.size() + kAligned - 1) / kAligned * kAligned;
  Bf16* others = arrived_.Take<Bf16>(stride * (size_ - 1));
  Call(name, [&] { return ExchangeParts(x, ranges, others, stride); });
  cuda::SumInRankOrder({.mine = x.data<Bf16>() + mine.begin,
                        .others = others,
                        .stride = stride,
                        .rank = rank_,
                        .ranks = size_},
                       mine.size(), stream_);
}

ncclResult_t NcclRanks::ExchangeParts(const TensorView& x, const std::vector<ElementRange>& ranges,
                                      Bf16* arrived, int64_t stride) const {
  const auto held = static_cast<size_t>(Mine(ranges).size());
  Group group;
  for (int r = 0; r < size_; ++r) {
    if (r == rank_) continue;
    const ElementRange& theirs = ranges[static_cast<size_t>(r)];
    if (theirs.size() > 0) {
      group.Add(nccl::Library().send(At(x, theirs.begin), static_cast<size_t>(theirs.size()),
                                     ncclBfloat16, r, comm_, stream_));
    }
    if (held > 0) {
      group.Add(nccl::Library().recv(arrived + (r < rank_ ? r : r - 1) * stride, held, ncclBfloat16,
                                     r, comm_, stream_));
    }
  }
  return group.End();
}

}  // namespace entrain
