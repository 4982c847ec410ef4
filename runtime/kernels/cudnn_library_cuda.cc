#ifdef ENTRAIN_CUDNN

#include "runtime/kernels/cudnn_library_cuda.h"

#include "absl/strings/str_cat.h"
#include "runtime/base/shared_library.h"

namespace entrain::cudnn {
namespace {

// Attention of 9.10.0 and 9.10.1 is broken by NVIDIA's own account; devices described by a text came with 9.8.
constexpr size_t kLeastVersion = 91100;
constexpr SharedLibrary::Wanted kWanted = {"cuDNN 9.11 or newer", "libcudnn.so.9",
                                           "ENTRAIN_CUDNN_LIBRARY"};

std::string Text(size_t version) {
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

absl::StatusOr<Functions> FindFunctions() {
  ASSIGN_OR_RETURN(const SharedLibrary library, SharedLibrary::Open(kWanted));
  Functions f;
  RETURN_IF_ERROR(library.Find("cudnnGetVersion", &f.get_version));
  RETURN_IF_ERROR(library.Find("cudnnGetErrorString", &f.get_error_string));
  RETURN_IF_ERROR(library.Find("cudnnGetLastErrorString", &f.get_last_error_string));
  RETURN_IF_ERROR(library.Find("cudnnCreate", &f.create));
  RETURN_IF_ERROR(library.Find("cudnnDestroy", &f.destroy));
  RETURN_IF_ERROR(library.Find("cudnnSetStream", &f.set_stream));
  RETURN_IF_ERROR(library.Find("cudnnBackendCreateDescriptor", &f.create_descriptor));
  RETURN_IF_ERROR(library.Find("cudnnBackendDestroyDescriptor", &f.destroy_descriptor));
  RETURN_IF_ERROR(library.Find("cudnnBackendSetAttribute", &f.set_attribute));
  RETURN_IF_ERROR(library.Find("cudnnBackendGetAttribute", &f.get_attribute));
  RETURN_IF_ERROR(library.Find("cudnnBackendFinalize", &f.finalize));
  RETURN_IF_ERROR(library.Find("cudnnBackendExecute", &f.execute));
  const size_t version = f.get_version();
  if (version < kLeastVersion) return library.WrongVersion(Text(version));
  return f;
}

}  // namespace

absl::Status Load() { return FoundOnce<FindFunctions>().status(); }

const Functions& Library() { return Found<FindFunctions>(); }

std::string Version() { return Text(Library().get_version()); }

}  // namespace entrain::cudnn

#endif  // ENTRAIN_CUDNN
