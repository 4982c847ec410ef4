// SharedLibrary: a library that a program may lack, opened when it is first wanted instead of at the program's start.
//
//   ASSIGN_OR_RETURN(const SharedLibrary nccl, SharedLibrary::Open({"NCCL 2", "libnccl.so.2", "ENTRAIN_NCCL_LIBRARY"}));
//   RETURN_IF_ERROR(nccl.Find("ncclGetVersion", &get_version));
#ifndef ENTRAIN_RUNTIME_BASE_SHARED_LIBRARY_H_
#define ENTRAIN_RUNTIME_BASE_SHARED_LIBRARY_H_

#include <string>

#include "runtime/base/check.h"
#include "runtime/base/status.h"

namespace entrain {

class SharedLibrary {
 public:
  struct Wanted {
    const char* what;      // "NCCL 2.26 or newer": for messages
    const char* soname;    // "libnccl.so.2"
    const char* variable;  // of the environment: a path to be taken instead of any other
  };

  // The first of: the variable's path, what the dynamic linker finds by the name, CUDA's usual folders. NotFound says what was
  // wanted and where it was looked for. It stays open until the program ends: threads of its own may be at work in it.
  static absl::StatusOr<SharedLibrary> Open(const Wanted& wanted);

  template <typename Function>
  absl::Status Find(const char* name, Function** function) const {
    void* address = nullptr;
    RETURN_IF_ERROR(FindAddress(name, &address));
    *function = reinterpret_cast<Function*>(address);
    return absl::OkStatus();
  }

  // FailedPrecondition: this is not the version that is wanted. `version`: its own, "2.18.3".
  absl::Status WrongVersion(const std::string& version) const;

 private:
  SharedLibrary(const Wanted& wanted, void* handle) : wanted_(wanted), handle_(handle) {}
  absl::Status FindAddress(const char* name, void** address) const;
  // Of the file that was opened.
  std::string Path() const;

  Wanted wanted_;
  void* handle_;
};

// What find(), an absl::StatusOr of a library's functions, gave when it was first wanted: kept until the program ends.
template <auto find>
const auto& FoundOnce() {
  static const auto* const found = new auto(find());
  return *found;
}
// The functions, when it is known that they were found.
template <auto find>
const auto& Found() {
  CHECK(FoundOnce<find>().ok()) << FoundOnce<find>().status().message();
  return *FoundOnce<find>();
}

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_BASE_SHARED_LIBRARY_H_
