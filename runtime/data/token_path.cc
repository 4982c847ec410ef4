// ExpandPath of token_file.h: a file, glob or folder as the files that it stands for.
#include <fnmatch.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/data/megatron_token_file.h"
#include "runtime/data/token_file.h"

namespace entrain {
namespace {

bool IsGlob(std::string_view text) { return text.find_first_of("*?[") != std::string_view::npos; }

bool IsTemporary(std::string_view name) { return name.ends_with(".tmp"); }

// The entries of `folder` whose names match one component of a glob. A leading dot must be matched
// by a dot.
absl::StatusOr<std::vector<DirEntry>> MatchIn(FileSystem& fs, const std::string& folder,
                                              const std::string& pattern) {
  ASSIGN_OR_RETURN(std::vector<DirEntry> entries, fs.List(folder.empty() ? "." : folder));
  std::erase_if(entries, [&](const DirEntry& entry) {
    return IsTemporary(entry.name) || fnmatch(pattern.c_str(), entry.name.c_str(), FNM_PERIOD) != 0;
  });
  return entries;
}

// Appends the files that `rest` matches below `folder` (which ends in '/' or is empty).
absl::Status Glob(FileSystem& fs, const std::string& folder, const std::string& rest,
                  std::vector<std::string>* files) {
  const size_t slash = rest.find('/');
  const std::string component = rest.substr(0, slash);
  const bool is_last = slash == std::string::npos;
  if (!is_last && !IsGlob(component)) {
    return Glob(fs, folder + component + "/", rest.substr(slash + 1), files);
  }
  if (!folder.empty()) {
    ASSIGN_OR_RETURN(const bool is_directory, fs.IsDirectory(folder));
    if (!is_directory) return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::vector<DirEntry> entries, MatchIn(fs, folder, component));
  for (const DirEntry& entry : entries) {
    if (is_last && !entry.is_directory) files->push_back(folder + entry.name);
    if (!is_last && entry.is_directory) {
      RETURN_IF_ERROR(Glob(fs, folder + entry.name + "/", rest.substr(slash + 1), files));
    }
  }
  return absl::OkStatus();
}

// Sorts by name and leaves out an .idx whose .bin is there too.
std::vector<std::string> SortedWithoutPartners(std::vector<std::string> files) {
  std::sort(files.begin(), files.end());
  const std::vector<std::string> all = files;
  std::erase_if(files, [&](const std::string& file) {
    return file.ends_with(".idx") &&
           std::binary_search(all.begin(), all.end(), MegatronDataPath(file));
  });
  return files;
}

absl::StatusOr<std::vector<std::string>> FilesOfFolder(FileSystem& fs, const std::string& folder) {
  ASSIGN_OR_RETURN(const std::vector<DirEntry> entries, fs.List(folder));
  std::vector<std::string> files;
  bool has_train = false;
  bool has_val = false;
  for (const DirEntry& entry : entries) {
    const std::string& name = entry.name;
    if (entry.is_directory || !(name.ends_with(".bin") || name.ends_with(".idx"))) continue;
    files.push_back(JoinPath(folder, name));
    has_train = has_train || name.starts_with("train_");
    has_val = has_val || name.starts_with("val_");
  }
  if (has_train && has_val) {
    return absl::InvalidArgumentError(absl::StrCat(
        folder, ": holds shards of both train_* and val_*; say which are meant: '",
        JoinPath(folder, "train_*.bin"), "' or '", JoinPath(folder, "val_*.bin"), "'"));
  }
  if (files.empty()) {
    return absl::NotFoundError(absl::StrCat(
        folder, ": no token files in this folder (*.bin, or Megatron's *.bin with *.idx)"));
  }
  return SortedWithoutPartners(std::move(files));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ExpandPath(FileSystem& fs, const std::string& path) {
  if (IsTemporary(path.substr(0, path.find_last_not_of('/') + 1))) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", path, "' is not finished: names that end in .tmp are never read"));
  }
  ASSIGN_OR_RETURN(const bool exists, fs.Exists(path));
  if (exists) {
    ASSIGN_OR_RETURN(const bool is_directory, fs.IsDirectory(path));
    if (is_directory) return FilesOfFolder(fs, path);
    return std::vector<std::string>{path};
  }
  ASSIGN_OR_RETURN(const bool is_prefix, fs.Exists(path + ".idx"));
  if (is_prefix) return std::vector<std::string>{path + ".idx"};
  std::vector<std::string> files;
  if (IsGlob(path)) {
    const bool absolute = path.starts_with('/');
    RETURN_IF_ERROR(Glob(fs, absolute ? "/" : "", absolute ? path.substr(1) : path, &files));
  }
  if (files.empty()) {
    return absl::NotFoundError(
        absl::StrCat(IsGlob(path) ? "no file matches '" : "no such file or folder: '", path, "'"));
  }
  return SortedWithoutPartners(std::move(files));
}

}  // namespace entrain
