#include "parallel/comm/library_nccl.h"

#include "absl/strings/str_cat.h"
#include "runtime/base/shared_library.h"

namespace entrain::nccl {
namespace {

// Where a function of a name comes from: the library or, of an emulated NCCL, this program.
#ifdef ENTRAIN_LINKED_NCCL
#define ENTRAIN_FIND_NCCL(name, member) (f.member = &(name))
#else
#define ENTRAIN_FIND_NCCL(name, member) RETURN_IF_ERROR(library.Find(#name, &f.member))

// The first that keeps the order among communicators of one process by itself (NCCL_LAUNCH_ORDER_IMPLICIT).
constexpr int kLeastVersion = 22600;
constexpr SharedLibrary::Wanted kWanted = {"NCCL 2.26 or newer", "libnccl.so.2",
                                           "ENTRAIN_NCCL_LIBRARY"};
#endif

absl::StatusOr<Functions> FindFunctions() {
#ifndef ENTRAIN_LINKED_NCCL
  ASSIGN_OR_RETURN(const SharedLibrary library, SharedLibrary::Open(kWanted));
#endif
  Functions f;
  ENTRAIN_FIND_NCCL(ncclGetVersion, get_version);
  ENTRAIN_FIND_NCCL(ncclGetUniqueId, get_unique_id);
  ENTRAIN_FIND_NCCL(ncclCommInitRankConfig, comm_init_rank_config);
  ENTRAIN_FIND_NCCL(ncclCommFinalize, comm_finalize);
  ENTRAIN_FIND_NCCL(ncclCommDestroy, comm_destroy);
  ENTRAIN_FIND_NCCL(ncclCommGetAsyncError, comm_get_async_error);
  ENTRAIN_FIND_NCCL(ncclGetLastError, get_last_error);
  ENTRAIN_FIND_NCCL(ncclGetErrorString, get_error_string);
  ENTRAIN_FIND_NCCL(ncclGroupStart, group_start);
  ENTRAIN_FIND_NCCL(ncclGroupEnd, group_end);
  ENTRAIN_FIND_NCCL(ncclAllReduce, all_reduce);
  ENTRAIN_FIND_NCCL(ncclReduce, reduce);
  ENTRAIN_FIND_NCCL(ncclReduceScatter, reduce_scatter);
  ENTRAIN_FIND_NCCL(ncclAllGather, all_gather);
  ENTRAIN_FIND_NCCL(ncclBroadcast, broadcast);
  ENTRAIN_FIND_NCCL(ncclSend, send);
  ENTRAIN_FIND_NCCL(ncclRecv, recv);
#ifndef ENTRAIN_LINKED_NCCL
  int version = 0;
  if (f.get_version(&version) != ncclSuccess || version < kLeastVersion) {
    return library.WrongVersion(absl::StrCat(version / 10000, ".", version / 100 % 100));
  }
#endif
  return f;
}

}  // namespace

absl::Status Load() { return FoundOnce<FindFunctions>().status(); }

const Functions& Library() { return Found<FindFunctions>(); }

}  // namespace entrain::nccl
