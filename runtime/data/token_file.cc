#include "runtime/data/token_file.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/data/flat_token_file.h"
#include "runtime/data/megatron_token_file.h"

namespace entrain {
namespace {

absl::StatusOr<std::unique_ptr<TokenFile>> OpenByContents(FileSystem& fs, const std::string& path) {
  if (path.ends_with(".idx")) return OpenMegatronFile(fs, path);
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file, fs.Map(path));
  if (HasLlmcMagic(file->bytes())) return OpenLlmcFile(std::move(file), path);
  if (const std::string index = MegatronIndexPath(path); !index.empty()) {
    ASSIGN_OR_RETURN(const bool is_pair, fs.Exists(index));
    if (is_pair) return OpenMegatronFile(fs, path);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": not a token file that shows its format: expected llm.c's magic number ",
      kLlmcMagicU16, " or ", kLlmcMagicU32,
      ", or Megatron's .idx beside a .bin, and found neither in its ", file->bytes().size(),
      " bytes. A headerless nanoGPT file must be asked for: format = \"nanogpt\""));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenFile>> OpenTokenFile(FileSystem& fs, const std::string& path,
                                                         TokenFormat format) {
  if (format == TokenFormat::kAuto) return OpenByContents(fs, path);
  if (format == TokenFormat::kMegatron) return OpenMegatronFile(fs, path);
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file, fs.Map(path));
  return format == TokenFormat::kLlmc ? OpenLlmcFile(std::move(file), path)
                                      : OpenNanogptFile(std::move(file), path);
}

}  // namespace entrain
