#include "runtime/base/shared_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kVariable = "ENTRAIN_TEST_LIBRARY";
// Every program here has it.
constexpr SharedLibrary::Wanted kMathematics = {"the C library's mathematics", "libm.so.6",
                                                kVariable};
constexpr SharedLibrary::Wanted kMissing = {"Nothing 3 or newer", "libentrain_nothing.so.3",
                                            kVariable};

class SharedLibraryTest : public ::testing::Test {
 protected:
  SharedLibraryTest() { unsetenv(kVariable); }
  ~SharedLibraryTest() override { unsetenv(kVariable); }
};

TEST_F(SharedLibraryTest, FindsFunctions) {
  const auto library = SharedLibrary::Open(kMathematics);
  ASSERT_TRUE(library.ok()) << library.status();
  double (*cosine)(double) = nullptr;
  ASSERT_TRUE(library->Find("cos", &cosine).ok());
  EXPECT_EQ(cosine(0.0), 1.0);
}

TEST_F(SharedLibraryTest, SaysWhatIsWantedAndWhereItWasLookedFor) {
  const auto library = SharedLibrary::Open(kMissing);
  EXPECT_EQ(library.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(library.status().message()),
              AllOf(HasSubstr("Nothing 3 or newer"), HasSubstr("libentrain_nothing.so.3"),
                    HasSubstr("LD_LIBRARY_PATH"), HasSubstr("/usr/local/cuda/lib64"),
                    HasSubstr(kVariable)));
}

TEST_F(SharedLibraryTest, TakesTheVariablesFileAndNoOther) {
  setenv(kVariable, "libm.so.6", 1);
  EXPECT_TRUE(SharedLibrary::Open(kMissing).ok());
  setenv(kVariable, "/nowhere/libm.so.6", 1);
  EXPECT_THAT(std::string(SharedLibrary::Open(kMathematics).status().message()),
              AllOf(HasSubstr(kVariable), HasSubstr("/nowhere/libm.so.6")));
}

TEST_F(SharedLibraryTest, NamesTheFileThatIsTheWrongOne) {
  const auto library = SharedLibrary::Open(kMathematics);
  ASSERT_TRUE(library.ok()) << library.status();
  void (*function)() = nullptr;
  EXPECT_THAT(std::string(library->Find("entrain_nothing", &function).message()),
              AllOf(HasSubstr("/libm.so.6"), HasSubstr("entrain_nothing")));
  EXPECT_THAT(std::string(library->WrongVersion("1.2").message()),
              AllOf(HasSubstr("/libm.so.6"), HasSubstr("1.2"), HasSubstr(kMathematics.what)));
}

}  // namespace
}  // namespace entrain
