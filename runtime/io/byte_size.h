// Byte counts as people read them.
#ifndef ENTRAIN_RUNTIME_IO_BYTE_SIZE_H_
#define ENTRAIN_RUNTIME_IO_BYTE_SIZE_H_

#include <cstdint>
#include <string>

namespace entrain {

// "512 bytes", "1.4 GiB": binary units with one decimal.
std::string FormatBytes(int64_t bytes);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_IO_BYTE_SIZE_H_
