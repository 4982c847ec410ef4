// Manifest: the files of a committed folder with sizes and checksums. Its rename is the commit.
//
//   {"checksum": XXH3-128 of the rest, "extra": {...}, "files": [{"name", "bytes", "checksum"}...],
//   "version": 1,
//    "written_by": "entrain 0.1.0"}
#ifndef ENTRAIN_RUNTIME_IO_MANIFEST_H_
#define ENTRAIN_RUNTIME_IO_MANIFEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/io/checksum.h"
#include "runtime/io/file_system.h"

namespace entrain {

inline constexpr char kManifestName[] = "manifest.json";

struct ManifestFile {
  std::string name;  // in the folder itself: no '/'
  int64_t bytes = 0;
  std::string checksum;  // XXH3-128, 32 hex digits
};

struct Manifest {
  static constexpr int kVersion = 1;
  std::vector<ManifestFile> files;
  std::string extra =
      "{}";  // a JSON object of the caller's (step, ...); read back with its keys sorted
  std::string written_by;  // set by ReadManifest: the program and version that committed the folder
};

// Syncs the folder's names, then writes the manifest atomically into it (temporary name, sync,
// rename, sync of the folder). The files themselves must have been synced. `extra` must be a JSON
// object.
absl::Status CommitManifest(FileSystem& fs, const std::string& folder, const Manifest& manifest);

// NotFound when the folder was never committed; DataLoss when the manifest is damaged: it carries a
// checksum of itself; FailedPrecondition when a later version of the program wrote it in a format
// that this one does not know.
absl::StatusOr<Manifest> ReadManifest(FileSystem& fs, const std::string& folder);

// Every file there, of the recorded size and checksum; DataLoss names the first of the manifest that is
// not and how it differs. Files are hashed by several threads. check_contents = false compares sizes
// only. A file that cannot be read for another
// reason gives that reason's code.
absl::Status VerifyManifest(FileSystem& fs, const std::string& folder, const Manifest& manifest,
                            bool check_contents = true);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_IO_MANIFEST_H_
