#include "launcher/signals.h"

#include <gtest/gtest.h>

namespace entrain {
namespace {

int handled = 0;
void CountSignal(int) { ++handled; }

class StopSignalTest : public ::testing::TestWithParam<int> {};

TEST_P(StopSignalTest, IsRememberedAndEndsNothing) {
  const StopSignals signals;
  EXPECT_EQ(signals.received(), 0);
  ASSERT_EQ(raise(GetParam()), 0);
  EXPECT_EQ(signals.received(), GetParam());
}

TEST_P(StopSignalTest, ThePreviousHandlerIsRestored) {
  const auto before = std::signal(GetParam(), CountSignal);
  { const StopSignals signals; }
  handled = 0;
  ASSERT_EQ(raise(GetParam()), 0);
  EXPECT_EQ(handled, 1);
  std::signal(GetParam(), before);
}

INSTANTIATE_TEST_SUITE_P(All, StopSignalTest, ::testing::Values(SIGUSR1, SIGUSR2, SIGTERM));

TEST(StopSignalsTest, TheFirstSignalStands) {
  const StopSignals signals;
  raise(SIGUSR2);
  raise(SIGTERM);
  EXPECT_EQ(signals.received(), SIGUSR2);
}

TEST(StopSignalsTest, ALaterWatchStartsAnew) {
  {
    const StopSignals signals;
    raise(SIGUSR1);
  }
  const StopSignals signals;
  EXPECT_EQ(signals.received(), 0);
}

TEST(StopSignalsDeathTest, TwoAtOnceAreAnError) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        const StopSignals first;
        const StopSignals second;
      },
      "two StopSignals at once");
}

TEST(SignalNameTest, IsThatOfTheManual) {
  EXPECT_EQ(SignalName(SIGUSR1), "SIGUSR1");
  EXPECT_EQ(SignalName(SIGTERM), "SIGTERM");
  EXPECT_EQ(SignalName(999), "signal 999");
}

}  // namespace
}  // namespace entrain
