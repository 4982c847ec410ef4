// UTF-8 validity, as Unicode's table 3-7 defines it: no overlong forms, no surrogates, nothing
// above U+10FFFF.
#ifndef ENTRAIN_RUNTIME_DATA_UTF8_H_
#define ENTRAIN_RUNTIME_DATA_UTF8_H_

#include <cstddef>
#include <string_view>

namespace entrain {

// Bytes of the longest prefix of `text` that is valid UTF-8.
size_t ValidUtf8Prefix(std::string_view text);

inline bool IsValidUtf8(std::string_view text) { return ValidUtf8Prefix(text) == text.size(); }

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_UTF8_H_
