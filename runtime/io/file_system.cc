#include "runtime/io/file_system.h"

namespace entrain {

std::string JoinPath(std::string_view folder, std::string_view name) {
  std::string path(folder);
  if (!path.empty() && path.back() != '/') path += '/';
  return path.append(name);
}

absl::Status WriteTextSynced(FileSystem& fs, const std::string& path, std::string_view text) {
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.Create(path));
  RETURN_IF_ERROR(file->Append(text.data(), static_cast<int64_t>(text.size())));
  RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

absl::Status WriteTextAtomically(FileSystem& fs, const std::string& path, std::string_view text) {
  const std::string temporary = path + ".tmp";
  absl::Status written = WriteTextSynced(fs, temporary, text);
  if (written.ok()) written = fs.Rename(temporary, path);
  if (!written.ok()) {
    // The error that matters is the first one; what is left of the temporary file is overwritten by
    // the next attempt.
    fs.RemoveFile(temporary).IgnoreError();
    return written;
  }
  return fs.SyncDirectory(ParentPath(path));
}

std::string ParentPath(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, slash == 0 ? 1 : slash));
}

}  // namespace entrain
