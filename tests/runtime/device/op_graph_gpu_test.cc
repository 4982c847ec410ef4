#include <gtest/gtest.h>

#include <optional>

#include "runtime/device/op_graph.h"
#include "runtime/device/timeline.h"
#include "runtime/kernels/gradient_norm.h"
#include "tests/support/gpu_test.h"

namespace entrain {
namespace {

// Ops that square a number of times what is in device memory, counted on the host.
class OpGraphGpuTest : public testing::Test {
 protected:
  void SetUp() override {
    ENTRAIN_REQUIRE_GPU();
    x_.emplace(DType::kF32, std::initializer_list<int64_t>{3});
    sum_.emplace(DType::kF64, std::initializer_list<int64_t>{1});
    other_.emplace(DType::kF64, std::initializer_list<int64_t>{1});
  }
  double Run(uint64_t key, float value) {
    x_->Fill(value);
    graph_.Run(Gpu(), key, [&] {
      ++issued_;
      SumsOfSquares(Gpu(), {{*x_}}, *sum_);
      if (key > 0) CopyOnDevice(Gpu(), sum_->view().raw(), other_->view().raw(), 8);
    });
    return sum_->GetDoubles()[0];
  }

  std::optional<GpuTensor> x_, sum_, other_;
  OpGraph graph_;
  int issued_ = 0;
};

TEST_F(OpGraphGpuTest, IssuesTwiceThenRepeats) {
  for (const float value : {1.0F, 2.0F, 3.0F, 4.0F}) {
    EXPECT_EQ(Run(0, value), 3.0 * value * value);
  }
  EXPECT_EQ(issued_, 2) << "as they are, then to be recorded";
}

TEST_F(OpGraphGpuTest, RecordsEachKeyApart) {
  for (int i = 0; i < 3; ++i) Run(0, 1.0F);
  EXPECT_EQ(other_->GetDoubles()[0], 0.0);
  for (int i = 0; i < 3; ++i) Run(1, 2.0F);
  EXPECT_EQ(other_->GetDoubles()[0], 12.0);
  EXPECT_EQ(issued_, 4);
  EXPECT_EQ(Run(0, 3.0F), 27.0);
  EXPECT_EQ(other_->GetDoubles()[0], 12.0) << "the first key's ops do not copy";
  EXPECT_EQ(issued_, 4);
}

TEST_F(OpGraphGpuTest, RecordsAnewWhenMemoryWasFreed) {
  for (int i = 0; i < 3; ++i) Run(0, 1.0F);
  { const GpuTensor freed(DType::kF32, {100}); }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Run(0, 2.0F), 12.0);
  EXPECT_EQ(issued_, 4);
}

TEST_F(OpGraphGpuTest, RecordsAnewWhenAnOpHasSeenOtherTensors) {
  for (int i = 0; i < 3; ++i) Run(0, 1.0F);
  const GpuTensor other(DType::kF32, {2}, {5.0F, 5.0F});
  SumsOfSquares(Gpu(), {{other}}, *other_);
  EXPECT_EQ(other_->GetDoubles()[0], 50.0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Run(0, 2.0F), 12.0);
}

TEST_F(OpGraphGpuTest, TimesOfEachRun) {
  const std::unique_ptr<Timeline> timeline = Timeline::Create(Gpu());
  double before = 0.0;
  for (int i = 0; i < 4; ++i) {
    graph_.Run(Gpu(), 0, [&] {
      timeline->Mark(0);
      SumsOfSquares(Gpu(), {{*x_}}, *sum_);
      timeline->Mark(1);
    });
    Synchronize(Gpu());
    const double seconds = timeline->Seconds(0, 1);
    EXPECT_GT(seconds, 0.0);
    if (i == 3) {
      EXPECT_NE(seconds, before) << "the time of an earlier run";
    }
    before = seconds;
  }
}

}  // namespace
}  // namespace entrain
