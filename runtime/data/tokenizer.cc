#include "runtime/data/tokenizer.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/nearest_name.h"
#include "runtime/data/bpe_tokenizer.h"
#include "runtime/data/byte_tokenizer.h"
#include "runtime/io/file_system.h"

namespace entrain {
namespace {

constexpr char kMergesInData[] = "gpt2/merges.txt";
// A binary lies in bin/ or build/, a test up to three folders below build/.
constexpr int kFoldersAboveBinary = 5;

void AddPlacesNearBinary(std::vector<std::filesystem::path>* places) {
  std::error_code error;
  std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return;
  folder = folder.parent_path();
  for (int i = 0; i < kFoldersAboveBinary && folder.has_relative_path(); ++i) {
    folder = folder.parent_path();
    places->push_back(folder / "share/entrain" / kMergesInData);
    places->push_back(folder / "runtime/data" / kMergesInData);
  }
}

// In the order in which they are looked at.
std::vector<std::filesystem::path> MergesPlaces() {
  std::vector<std::filesystem::path> places;
  if (const char* data = std::getenv("ENTRAIN_DATA"); data != nullptr && *data != '\0') {
    places.push_back(std::filesystem::path(data) / kMergesInData);
  }
  AddPlacesNearBinary(&places);
  // This file is <source tree>/runtime/data/tokenizer.cc.
  places.push_back(std::filesystem::path(__FILE__).parent_path() / kMergesInData);
  return places;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadBpe(const std::string& name,
                                                   const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, FileSystem::Posix().ReadText(path));
  ASSIGN_OR_RETURN(MergeTable merges, MergeTable::Parse(text, path));
  return std::make_unique<BpeTokenizer>(name, std::move(merges));
}

}  // namespace

absl::StatusOr<std::string> FindGpt2Merges() {
  const std::vector<std::filesystem::path> places = MergesPlaces();
  for (const std::filesystem::path& place : places) {
    std::error_code error;
    if (std::filesystem::is_regular_file(place, error)) return place.string();
  }
  const auto append_path = [](std::string* out, const std::filesystem::path& place) {
    out->append(place.string());
  };
  return absl::NotFoundError(absl::StrCat(
      "GPT-2's merges.txt was found nowhere; looked at ", absl::StrJoin(places, ", ", append_path),
      ". Set ENTRAIN_DATA to the folder that holds gpt2/merges.txt, or give the file's path as the "
      "tokenizer"));
}

absl::Status CheckTokenizerName(const std::string& spec) {
  std::error_code error;
  if (spec == "byte" || spec == "gpt2" || std::filesystem::is_regular_file(spec, error)) {
    return absl::OkStatus();
  }
  return absl::NotFoundError(
      absl::StrCat("tokenizer '", spec, "' is neither gpt2, byte nor the path of a merges.txt file",
                   DidYouMean(spec, {"gpt2", "byte"})));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(const std::string& spec) {
  RETURN_IF_ERROR(CheckTokenizerName(spec));
  if (spec == "byte") return std::make_unique<ByteTokenizer>();
  if (spec == "gpt2") {
    ASSIGN_OR_RETURN(const std::string path, FindGpt2Merges());
    return LoadBpe(spec, path);
  }
  return LoadBpe(spec, spec);
}

}  // namespace entrain
