#include "runtime/io/manifest.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

using Json = nlohmann::json;  // keys sorted: one text for one content

constexpr char kChecksumKey[] = "checksum";
constexpr char kProgram[] = "entrain " ENTRAIN_VERSION;

std::string ChecksumOfText(std::string_view text) {
  return ChecksumOf(text.data(), static_cast<int64_t>(text.size()));
}

absl::StatusOr<std::string> Format(const Manifest& manifest) {
  Json json = {{"version", Manifest::kVersion}, {"written_by", kProgram}, {"files", Json::array()}};
  json["extra"] = Json::parse(manifest.extra, nullptr, /*allow_exceptions=*/false);
  CHECK(json["extra"].is_object()) << "extra is not a JSON object: " << manifest.extra;
  for (const ManifestFile& file : manifest.files) {
    json["files"].push_back(
        {{"name", file.name}, {"bytes", file.bytes}, {"checksum", file.checksum}});
  }
  try {
    json[kChecksumKey] = ChecksumOfText(json.dump());
    return json.dump(/*indent=*/1) + "\n";
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot write a ", kManifestName, ": a name is not UTF-8: ", error.what()));
  }
}

// The JSON without its checksum, which held.
absl::StatusOr<Json> ParseChecked(const std::string& text) {
  // Deeper than any manifest. What lies below is left out: writing out a value recurses.
  constexpr int kMaxDepth = 32;
  const auto keep = [](int depth, Json::parse_event_t, const Json&) { return depth <= kMaxDepth; };
  Json json = Json::parse(text, keep, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::DataLossError("it is not valid JSON");
  const auto recorded = json.find(kChecksumKey);
  if (recorded == json.end() || !recorded->is_string()) {
    return absl::DataLossError("its own checksum is missing");
  }
  const auto expected = recorded->get<std::string>();
  json.erase(kChecksumKey);
  const std::string found = ChecksumOfText(json.dump());
  if (found == expected) return json;
  return absl::DataLossError(
      absl::StrCat("its own checksum is ", expected, ", its contents have ", found));
}

// A name that leaves the folder is not one that this program wrote.
bool IsPlainName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

// Throws the library's exceptions when a field is missing or of another type. The checksum held before: only a manifest
// that another program wrote can fail here.
Manifest ReadFields(const Json& json) {
  Manifest manifest;
  manifest.extra = Json(json.at("extra").get<Json::object_t>()).dump();
  for (const Json& row : json.at("files")) {
    manifest.files.push_back({row.at("name").get<std::string>(), row.at("bytes").get<int64_t>(),
                              row.at("checksum").get<std::string>()});
  }
  return manifest;
}

absl::Status CheckVersion(const Json& json, const std::string& written_by) {
  const auto version = json.at("version").get<int64_t>();
  if (version == Manifest::kVersion) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("it was written by ", written_by, " in format version ", version, "; ", kProgram,
                   " reads version ", Manifest::kVersion, " only: use the program that wrote it"));
}

absl::StatusOr<Manifest> Parse(const std::string& text) {
  ASSIGN_OR_RETURN(const Json json, ParseChecked(text));
  Manifest manifest;
  try {
    const auto written_by = json.at("written_by").get<std::string>();
    RETURN_IF_ERROR(CheckVersion(json, written_by));
    manifest = ReadFields(json);
    manifest.written_by = written_by;
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(absl::StrCat("it is malformed: ", error.what()));
  }
  for (const ManifestFile& file : manifest.files) {
    if (IsPlainName(file.name)) continue;
    return absl::DataLossError(
        absl::StrCat("it lists '", file.name, "', which is not a name in the folder itself"));
  }
  return manifest;
}

// What is not a file where one was written is damage; FailedPrecondition says something else here.
absl::Status DamageIfNoFile(const absl::Status& status) {
  if (!absl::IsFailedPrecondition(status)) return status;
  return absl::DataLossError(status.message());
}

absl::Status VerifyFile(FileSystem& fs, const std::string& path, const ManifestFile& file,
                        bool check_contents) {
  const absl::StatusOr<int64_t> bytes = fs.FileSize(path);
  if (absl::IsNotFound(bytes.status())) {
    return absl::DataLossError(
        absl::StrCat("'", path, "' is missing, its manifest lists it with ", file.bytes, " bytes"));
  }
  RETURN_IF_ERROR(DamageIfNoFile(bytes.status()));
  if (*bytes != file.bytes) {
    return absl::DataLossError(
        absl::StrCat("'", path, "' has ", *bytes, " bytes, its manifest says ", file.bytes));
  }
  if (!check_contents) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::unique_ptr<MappedFile> mapped, fs.Map(path));
  const std::string found =
      ChecksumOf(mapped->bytes().data(), static_cast<int64_t>(mapped->bytes().size()));
  if (found == file.checksum) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("'", path, "' is damaged: its checksum is ", found,
                                          ", its manifest says ", file.checksum));
}

// Hashing waits for the disk or for memory: more threads than this gain nothing.
constexpr size_t kMaxThreads = 8;

// Calls check(0), …, check(count − 1) on several threads, this one among them. The error of the lowest number, whatever
// the order in which they end: numbers are taken in ascending order, and what was taken is finished.
absl::Status FirstError(size_t count, size_t max_threads,
                        const std::function<absl::Status(size_t)>& check) {
  std::vector<absl::Status> results(count);
  std::atomic<size_t> next = 0;
  std::atomic<bool> failed = false;
  auto work = [&] {
    while (!failed) {
      const size_t i = next++;
      if (i >= count) return;
      results[i] = check(i);
      if (!results[i].ok()) failed = true;
    }
  };
  const size_t cores = std::max(1U, std::thread::hardware_concurrency());
  std::vector<std::thread> others;
  for (size_t i = 1; i < std::min({count, max_threads, cores}); ++i) others.emplace_back(work);
  work();
  for (std::thread& thread : others) thread.join();
  for (const absl::Status& result : results) RETURN_IF_ERROR(result);
  return absl::OkStatus();
}

}  // namespace

absl::Status CommitManifest(FileSystem& fs, const std::string& folder, const Manifest& manifest) {
  for (const ManifestFile& file : manifest.files) {
    CHECK(IsPlainName(file.name)) << "'" << file.name << "' is not a name in the folder itself";
  }
  ASSIGN_OR_RETURN(const std::string text, Format(manifest));
  RETURN_IF_ERROR(fs.SyncDirectory(folder));
  return WriteTextAtomically(fs, JoinPath(folder, kManifestName), text);
}

absl::StatusOr<Manifest> ReadManifest(FileSystem& fs, const std::string& folder) {
  const std::string path = JoinPath(folder, kManifestName);
  const absl::StatusOr<std::string> text = fs.ReadText(path);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(
        absl::StrCat("'", folder, "' was never committed: it has no ", kManifestName));
  }
  RETURN_IF_ERROR(DamageIfNoFile(text.status()));
  absl::StatusOr<Manifest> manifest = Parse(*text);
  if (manifest.ok()) return manifest;
  const absl::Status& bad = manifest.status();
  const char* verdict = absl::IsDataLoss(bad) ? "' is damaged: " : "' is of another version: ";
  return absl::Status(bad.code(), absl::StrCat("'", path, verdict, bad.message()));
}

absl::Status VerifyManifest(FileSystem& fs, const std::string& folder, const Manifest& manifest,
                            bool check_contents) {
  return FirstError(manifest.files.size(), check_contents ? kMaxThreads : 1, [&](size_t i) {
    const ManifestFile& file = manifest.files[i];
    return VerifyFile(fs, JoinPath(folder, file.name), file, check_contents);
  });
}

}  // namespace entrain
