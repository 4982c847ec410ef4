// cluster/bundle.sh: that a folder which it packs starts by itself, from anywhere and with nothing in the environment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/nvidia_driver.h"
#include "tests/support/subprocess.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class BundleTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    packed_ = RunProcess({ENTRAIN_SOURCE_DIR "/cluster/bundle.sh", build(), bundle()});
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(bundle()); }
  void SetUp() override { ASSERT_EQ(packed_.code, 0) << packed_.error; }

  static std::string build() {
    return std::filesystem::path(ENTRAIN_BINARY).parent_path().string();
  }
  static std::string bundle() { return build() + "/bundle_test"; }
  static ProcessResult Entrain(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     {"/usr/bin/env", "-i", "-C", "/", bundle() + "/bin/entrain"});
    return RunProcess(arguments);
  }
  static ProcessResult packed_;
};
ProcessResult BundleTest::packed_;

TEST_F(BundleTest, ItsProgramStarts) {
  const ProcessResult result = Entrain({"--version"});
  EXPECT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.output, HasSubstr(ENTRAIN_VERSION));
  EXPECT_EQ(result.error, "");
}

// What the bundle has of this machine's libraries it takes from itself: else it would start here, and nowhere else.
TEST_F(BundleTest, ItsProgramTakesItsOwnLibraries) {
  const std::string needed =
      RunProcess({"/usr/bin/env", "-i", "/usr/bin/ldd", bundle() + "/bin/entrain"}).output;
  for (const char* library : {"libmpi.so", "libdnnl.so", "libtomlplusplus.so"}) {
    SCOPED_TRACE(library);
    EXPECT_THAT(needed, HasSubstr(std::string(" => ") + bundle() + "/bin/../lib/" + library));
  }
  EXPECT_THAT(needed, Not(HasSubstr("not found")));
}

TEST_F(BundleTest, WithoutADriverOneErrorSaysSo) {
  if (HasNvidiaDriver()) GTEST_SKIP() << "this machine has an NVIDIA driver";
  const ProcessResult result =
      Entrain({"train", "--config", bundle() + "/configs/demo.toml", "--set", "train.device=cuda",
               "--set", "run.dir=" + bundle() + "/run"});
  EXPECT_EQ(result.code, 78) << result.error;
  EXPECT_THAT(result.error, HasSubstr("NVIDIA driver"));
  EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.error;
}

}  // namespace
}  // namespace entrain
