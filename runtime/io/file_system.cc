#include "runtime/io/file_system.h"

namespace entrain {

std::string JoinPath(std::string_view folder, std::string_view name) {
  std::string path(folder);
  if (!path.empty() && path.back() != '/') path += '/';
  return path.append(name);
}

namespace {

absl::Status WriteText(FileSystem& fs, const std::string& path, std::string_view text, bool sync) {
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.Create(path));
  RETURN_IF_ERROR(file->Append(text.data(), static_cast<int64_t>(text.size())));
  if (sync) RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

absl::Status Replace(FileSystem& fs, const std::string& path, std::string_view text, bool sync) {
  const std::string temporary = path + ".tmp";
  absl::Status written = WriteText(fs, temporary, text, sync);
  if (written.ok()) written = fs.Rename(temporary, path);
  // The error that matters is the first one; what is left of the temporary file is overwritten by
  // the next attempt.
  if (!written.ok()) fs.RemoveFile(temporary).IgnoreError();
  return written;
}

}  // namespace

absl::Status WriteTextSynced(FileSystem& fs, const std::string& path, std::string_view text) {
  return WriteText(fs, path, text, true);
}

absl::Status WriteTextAtomically(FileSystem& fs, const std::string& path, std::string_view text) {
  RETURN_IF_ERROR(Replace(fs, path, text, true));
  return fs.SyncDirectory(ParentPath(path));
}

absl::Status WriteTextUnsynced(FileSystem& fs, const std::string& path, std::string_view text) {
  return Replace(fs, path, text, false);
}

std::string ParentPath(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, slash == 0 ? 1 : slash));
}

}  // namespace entrain
