// NCCL's functions that are used, found in the library when a program first wants it: programs start without NCCL.
#ifndef ENTRAIN_PARALLEL_COMM_LIBRARY_NCCL_H_
#define ENTRAIN_PARALLEL_COMM_LIBRARY_NCCL_H_

#include <nccl.h>

#include "runtime/base/status.h"

namespace entrain::nccl {

struct Functions {
  decltype(&ncclGetVersion) get_version = nullptr;
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclCommInitRankConfig) comm_init_rank_config = nullptr;
  decltype(&ncclCommFinalize) comm_finalize = nullptr;
  decltype(&ncclCommDestroy) comm_destroy = nullptr;
  decltype(&ncclCommGetAsyncError) comm_get_async_error = nullptr;
  decltype(&ncclGetLastError) get_last_error = nullptr;
  decltype(&ncclGetErrorString) get_error_string = nullptr;
  decltype(&ncclGroupStart) group_start = nullptr;
  decltype(&ncclGroupEnd) group_end = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclReduce) reduce = nullptr;
  decltype(&ncclReduceScatter) reduce_scatter = nullptr;
  decltype(&ncclAllGather) all_gather = nullptr;
  decltype(&ncclBroadcast) broadcast = nullptr;
  decltype(&ncclSend) send = nullptr;
  decltype(&ncclRecv) recv = nullptr;
};

// Finds the library at the first call. NotFound or FailedPrecondition: it is not here, or it is not one that will do.
absl::Status Load();
// Once Load has succeeded.
const Functions& Library();

}  // namespace entrain::nccl

#endif  // ENTRAIN_PARALLEL_COMM_LIBRARY_NCCL_H_
