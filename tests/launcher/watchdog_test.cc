#include "launcher/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/heartbeat.h"
#include "parallel/comm/rank_failure.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

constexpr double kSecond = 1.0 / 60.0;  // in minutes

void Sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

TEST(WatchdogTest, KeepsWhatItIsTold) {
  Watchdog watchdog({});
  EXPECT_EQ(watchdog.status().phase, RunPhase::kStartup);
  EXPECT_FALSE(watchdog.status().loss.has_value());
  watchdog.Enter(RunPhase::kSave);
  watchdog.StepDone(3, 1.5);
  watchdog.Committed(2, "here");
  const RunStatus status = watchdog.status();
  EXPECT_EQ(status.phase, RunPhase::kSave);
  EXPECT_EQ(status.step, 3);
  EXPECT_EQ(status.loss, 1.5);
  EXPECT_EQ(status.last_commit, 2);
  EXPECT_EQ(status.checkpoint, "here");
}

TEST(WatchdogTest, PhasesInTimeAreLeftAlone) {
  Watchdog watchdog({.startup_minutes = kSecond, .step_minutes = kSecond, .save_minutes = 0});
  for (int i = 0; i < 5; ++i) {
    watchdog.Enter(RunPhase::kStep);
    Sleep(0.3);
  }
  watchdog.Enter(RunPhase::kSave);  // no deadline
  Sleep(1.5);
}

using WatchdogDeathTest = ::testing::Test;

void OverstayStep(int rank) {
  Watchdog watchdog({.rank = "1 of 4 on node7",
                     .rank_number = rank,
                     .step_minutes = 0.2 * kSecond,
                     .last_operation = [] {
                       return WorldOperation{"gradient bucket 3 over dp", {0, 2}};
                     }});
  watchdog.StepDone(11, 1.0);
  watchdog.Enter(RunPhase::kStep);
  Sleep(rank == 0 ? 10.0 : 1.5);
}

TEST(WatchdogDeathTest, AStepThatTakesTooLongEndsTheRank) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(OverstayStep(0), ::testing::ExitedWithCode(1),
              "rank 1 of 4 on node7: no end of step 12 within 0.00333333 minutes .*"
              "step_timeout_minutes.*in gradient bucket 3 over dp, waiting for ranks 0, 2");
}

// Later ranks leave the first one time to speak.
TEST(WatchdogDeathTest, AHigherRankWaitsLonger) { OverstayStep(1); }

// What a rank does whose neighbour on the same host has ended.
void LosePeer(bool told) {
  Watchdog watchdog({.rank = "0 of 2 on node7",
                     .last_operation =
                         [] {
                           return WorldOperation{"gradient bucket 3 over dp", {}};
                         },
                     .lost_rank =
                         [] {
                           return RankProcess{1, 4711};
                         },
                     .is_told = [told] { return told; }});
  watchdog.Committed(8, "there");
  watchdog.StepDone(9, 1.0);
  watchdog.Enter(RunPhase::kStep);
  Sleep(10.0);
}

TEST(WatchdogDeathTest, APeerThatIsGoneEndsTheRank) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(LosePeer(false), ::testing::ExitedWithCode(1),
              "rank 0 of 2 on node7: rank 1 .process 4711. has ended without a message .killed, "
              "out of memory, or crashed.; this rank is "
              "after step 9, in phase step, past gradient bucket 3 over dp; the run continues from "
              "its last checkpoint, step 8");
}

TEST(WatchdogDeathTest, APeerThatHasToldItselfIsNotToldOf) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(LosePeer(true), ::testing::ExitedWithCode(1), "^$");
}

TEST(WatchdogDeathTest, TheHookIsCalledBeforeTheEnd) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        SetFailureHook([](const std::string& message) {
          std::fprintf(stderr, "hook: %s\n", message.c_str());
        });
        FailRank("2 of 4", "lost");
      },
      ::testing::ExitedWithCode(1), "hook: rank 2 of 4: lost");
}

// What a rank says when it is told to end while it waits.
std::string SaidOnTermination(int rank, std::vector<int> awaited, int signal, bool told) {
  ::testing::internal::CaptureStderr();
  {
    Watchdog watchdog({.rank = "?",
                       .rank_number = rank,
                       .last_operation =
                           [&] {
                             return WorldOperation{"x over dp", awaited};
                           },
                       .received_signal = [&] { return signal; },
                       .is_told = [&] { return told; }});
    Sleep(0.8);
  }
  return ::testing::internal::GetCapturedStderr();
}

TEST(WatchdogTest, TheLowestOfThoseThatWaitSaysForWhom) {
  EXPECT_THAT(SaidOnTermination(0, {1}, SIGTERM, false), HasSubstr("waiting for rank 1"));
  EXPECT_THAT(SaidOnTermination(1, {0}, SIGTERM, false), HasSubstr("waiting for rank 0"));
  EXPECT_EQ(SaidOnTermination(2, {1}, SIGTERM, false), "");  // rank 0 waits too
  EXPECT_EQ(SaidOnTermination(0, {}, SIGTERM, false), "");
  EXPECT_EQ(SaidOnTermination(0, {1}, SIGUSR1, false), "");
  EXPECT_EQ(SaidOnTermination(0, {1}, SIGTERM, true), "");
}

TEST(HeartbeatTest, TellsWhereTheRunIs) {
  const TemporaryFolder folder;
  const auto read = [&] {
    std::ifstream file(HeartbeatPath(folder.path()));
    return nlohmann::json::parse(file);
  };
  Watchdog watchdog({});
  {
    const Heartbeat heartbeat(FileSystem::Posix(), folder.path(), 100, watchdog,
                              std::chrono::milliseconds(50));
    Sleep(0.2);
    EXPECT_EQ(read()["phase"], "startup");
    EXPECT_TRUE(read()["loss"].is_null());
    EXPECT_TRUE(read()["last_commit"].is_null());
    watchdog.Enter(RunPhase::kStep);
    watchdog.StepDone(42, 2.5);
    watchdog.Committed(40, "x");
    Sleep(0.2);
    EXPECT_EQ(read()["step"], 42);
    EXPECT_EQ(read()["steps"], 100);
    EXPECT_EQ(read()["loss"], 2.5);
    EXPECT_EQ(read()["phase"], "step");
    EXPECT_EQ(read()["last_commit"], 40);
    EXPECT_EQ(read()["pid"], getpid());
    watchdog.StepDone(43, std::numeric_limits<double>::quiet_NaN());
  }
  EXPECT_EQ(read()["step"], 43);  // the last one
  EXPECT_TRUE(read()["loss"].is_null());
}

}  // namespace
}  // namespace entrain
