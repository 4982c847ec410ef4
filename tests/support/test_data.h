// Where the files lie that tests read: in the sources, or where ENTRAIN_TEST_DATA_DIR in the environment says.
#ifndef ENTRAIN_TESTS_SUPPORT_TEST_DATA_H_
#define ENTRAIN_TESTS_SUPPORT_TEST_DATA_H_

#include <cstdlib>
#include <string>

namespace entrain {

inline std::string TestDataFolder() {
  const char* elsewhere = std::getenv("ENTRAIN_TEST_DATA_DIR");
  return elsewhere != nullptr ? elsewhere : ENTRAIN_TEST_DATA_DIR;
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_TEST_DATA_H_
