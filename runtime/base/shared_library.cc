#include "runtime/base/shared_library.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdlib>
#include <vector>

#include "absl/strings/str_cat.h"

namespace entrain {
namespace {

// Where toolkits put libraries, beside what the dynamic linker is told.
constexpr const char* kFolders[] = {"/usr/local/cuda/lib64", "/usr/local/cuda/lib"};

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Of the last call.
std::string LinkerError() {
  const char* error = dlerror();
  return error == nullptr ? "unknown error" : error;
}

void* OpenFile(const std::string& path) { return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); }

}  // namespace

absl::StatusOr<SharedLibrary> SharedLibrary::Open(const Wanted& wanted) {
  if (const std::string given = Environment(wanted.variable); !given.empty()) {
    if (void* handle = OpenFile(given)) return SharedLibrary(wanted, handle);
    return absl::NotFoundError(absl::StrCat(wanted.what, " cannot be loaded from ", wanted.variable,
                                            " = ", given, ": ", LinkerError()));
  }
  if (void* handle = OpenFile(wanted.soname)) return SharedLibrary(wanted, handle);
  const std::string error = LinkerError();
  for (const char* folder : kFolders) {
    if (void* handle = OpenFile(absl::StrCat(folder, "/", wanted.soname))) {
      return SharedLibrary(wanted, handle);
    }
  }
  const std::string path = Environment("LD_LIBRARY_PATH");
  return absl::NotFoundError(absl::StrCat(
      wanted.what, " is not on this machine: no ", wanted.soname, " in LD_LIBRARY_PATH",
      path.empty() ? "" : " (" + path + ")", ", in the system's folders, in ", kFolders[0], " and ",
      kFolders[1], " (", error, "); ", wanted.variable, " may name the file"));
}

absl::Status SharedLibrary::FindAddress(const char* name, void** address) const {
  *address = dlsym(handle_, name);
  if (*address != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(Path(), " is not ", wanted_.what, ": it has no ", name));
}

absl::Status SharedLibrary::WrongVersion(const std::string& version) const {
  return absl::FailedPreconditionError(
      absl::StrCat(Path(), " is version ", version, "; wanted is ", wanted_.what));
}

std::string SharedLibrary::Path() const {
  link_map* map = nullptr;
  if (dlinfo(handle_, RTLD_DI_LINKMAP, &map) != 0 || map == nullptr) return wanted_.soname;
  return map->l_name;
}

}  // namespace entrain
