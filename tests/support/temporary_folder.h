// A fresh folder for a test, removed with everything in it.
#ifndef ENTRAIN_TESTS_SUPPORT_TEMPORARY_FOLDER_H_
#define ENTRAIN_TESTS_SUPPORT_TEMPORARY_FOLDER_H_

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "runtime/base/check.h"

namespace entrain {

class TemporaryFolder {
 public:
  explicit TemporaryFolder(std::string where = ::testing::TempDir())
      : path_(std::move(where) + "/entrain_XXXXXX") {
    CHECK(::mkdtemp(path_.data()) != nullptr) << "cannot create " << path_;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }

  // Where folders are held in memory, if the machine has such a place: for tests that make thousands of small files.
  static std::string FastPlace() {
    return ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ::testing::TempDir();
  }

 private:
  std::string path_;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_TEMPORARY_FOLDER_H_
