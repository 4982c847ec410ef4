// Checksum: XXH3-128, of bytes that come in parts.
#ifndef ENTRAIN_RUNTIME_IO_CHECKSUM_H_
#define ENTRAIN_RUNTIME_IO_CHECKSUM_H_

#include <cstdint>
#include <memory>
#include <string>

struct XXH3_state_s;

namespace entrain {

class Checksum {
 public:
  Checksum();
  void Add(const void* data, int64_t bytes);
  // Of all that was added so far: 32 hex digits, the canonical (big-endian) form that xxhsum
  // prints.
  std::string HexDigits() const;

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

// Of one piece of memory.
std::string ChecksumOf(const void* data, int64_t bytes);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_IO_CHECKSUM_H_
