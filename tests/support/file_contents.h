// Whole files in and out, for tests that make files byte by byte.
#ifndef ENTRAIN_TESTS_SUPPORT_FILE_CONTENTS_H_
#define ENTRAIN_TESTS_SUPPORT_FILE_CONTENTS_H_

#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/check.h"

namespace entrain {

inline void WriteFile(const std::string& path, std::string_view contents) {
  std::ofstream file(path, std::ios::binary);
  file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
  file.close();
  CHECK(file.good()) << path;
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  CHECK(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The elements as they lie in memory (little-endian here).
template <typename T>
std::string BytesOf(const std::vector<T>& elements) {
  return {reinterpret_cast<const char*>(elements.data()), elements.size() * sizeof(T)};
}

template <typename T>
std::string BytesOf(T element) {
  return BytesOf(std::vector<T>{element});
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_FILE_CONTENTS_H_
