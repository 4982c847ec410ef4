#include "runtime/io/checksum.h"

#include <xxhash.h>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

std::string Hex(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest)));
}

}  // namespace

void Checksum::Free::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

Checksum::Checksum() : state_(XXH3_createState()) {
  CHECK(state_ != nullptr) << "no memory for the state of a checksum";
  XXH3_128bits_reset(state_.get());
}

void Checksum::Add(const void* data, int64_t bytes) {
  XXH3_128bits_update(state_.get(), data, static_cast<size_t>(bytes));
}

std::string Checksum::HexDigits() const { return Hex(XXH3_128bits_digest(state_.get())); }

std::string ChecksumOf(const void* data, int64_t bytes) {
  return Hex(XXH3_128bits(data, static_cast<size_t>(bytes)));
}

}  // namespace entrain
