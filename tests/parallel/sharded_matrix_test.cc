// Weight and spectral norm of a matrix that is cut over ranks: the same as of the whole one.
#include <gtest/gtest.h>

#include <cmath>

#include "parallel/sharded_power_iteration.h"
#include "parallel/sharded_row_norms.h"
#include "tests/support/local_ranks.h"
#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

constexpr int64_t kIn = 48;
constexpr int64_t kOut = 36;

// The whole matrix, a vector of each dim, or what a rank holds of them.
struct Cutter {
  MatrixCut cut;
  ShardPlace place;

  ShardSpec Matrix() const {
    if (cut == MatrixCut::kNone) return ShardSpec::Whole({kIn, kOut});
    return ShardSpec::Cut({kIn, kOut}, cut == MatrixCut::kRows ? 0 : 1, place);
  }
  ShardSpec Vector(int dim) const {
    const int64_t size = dim == 0 ? kIn : kOut;
    const bool is_cut = cut == (dim == 0 ? MatrixCut::kRows : MatrixCut::kColumns);
    return is_cut ? ShardSpec::Cut({size}, 0, place) : ShardSpec::Whole({size});
  }
};

TestTensor ShardOf(const ShardSpec& spec, const TestTensor& whole) {
  const std::vector<int64_t> shape = spec.LocalShape();
  TestTensor shard =
      shape.size() == 2 ? TestTensor::F32({shape[0], shape[1]}) : TestTensor::F32({shape[0]});
  spec.ForEachRun([&](int64_t local, int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; ++i) shard.Set(local + i, whole.At(begin + i));
  });
  return shard;
}

void ExpectShard(const TestTensor& got, const ShardSpec& spec, const TestTensor& whole,
                 double tolerance) {
  ASSERT_EQ(got.size(), spec.elements());
  spec.ForEachRun([&](int64_t local, int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      EXPECT_NEAR(got.At(local + i), whole.At(begin + i), tolerance) << begin + i;
    }
  });
}

TestTensor Raw() { return TestTensor::Normal(DType::kF32, {kIn, kOut}, 1, 0.1); }
TestTensor Gradient() { return TestTensor::Normal(DType::kF32, {kIn, kOut}, 2); }

struct NormResults {
  TestTensor norms, weight, dv, dg;
};

NormResults RunRowNorms(const TensorParallel& tp, const Cutter& cutter, NormAxis axis) {
  const auto context = CpuContext(1);
  const ShardSpec unit = cutter.Vector(axis == NormAxis::kOutput ? 1 : 0);
  const int64_t units = axis == NormAxis::kOutput ? kOut : kIn;
  TestTensor v = ShardOf(cutter.Matrix(), Raw());
  TestTensor g = ShardOf(unit, TestTensor::Normal(DType::kF32, {units}, 3));
  NormResults r{ShardOf(unit, TestTensor::F32({units})), v, ShardOf(cutter.Matrix(), Gradient()),
                ShardOf(unit, TestTensor::F32({units}))};
  TestTensor sums(DType::kF64, {unit.elements()});
  const ShardedRowNorms norms(tp, cutter.cut, axis);
  norms.Forward(*context, v.view(), g.view(), sums.view(), r.norms.view(), r.weight.view());
  norms.Backward(*context, v.view(), g.view(), sums.view(), r.norms.view(),
                 {.dweight = r.dv.view(), .dv = r.dv.view(), .dg = r.dg.view()});
  return r;
}

TEST(ShardedRowNormsTest, AnyCutGivesTheNormsOfTheWhole) {
  for (const NormAxis axis : {NormAxis::kOutput, NormAxis::kInput}) {
    const NormResults whole = RunRowNorms({}, {MatrixCut::kNone, {}}, axis);
    for (const MatrixCut cut : {MatrixCut::kRows, MatrixCut::kColumns}) {
      for (const int ranks : {1, 2, 4}) {
        OnLocalRanks(ranks, [&](std::unique_ptr<Communicator> world) {
          const TensorParallel tp(*world, false);
          const Cutter cutter{cut, tp.place()};
          const NormResults part = RunRowNorms(tp, cutter, axis);
          const ShardSpec unit = cutter.Vector(axis == NormAxis::kOutput ? 1 : 0);
          ExpectShard(part.norms, unit, whole.norms, 1e-7);
          ExpectShard(part.weight, cutter.Matrix(), whole.weight, 1e-6);
          ExpectShard(part.dv, cutter.Matrix(), whole.dv, 1e-5);
          ExpectShard(part.dg, unit, whole.dg, 1e-6);
        });
      }
    }
  }
}

struct SpectralResults {
  TestTensor v, u, draw;
  double sigma;
};

SpectralResults RunPowerIteration(const TensorParallel& tp, const Cutter& cutter) {
  const auto context = CpuContext(1);
  TestTensor unit = TestTensor::Normal(DType::kF32, {kOut}, 5);
  const double length = std::sqrt(Dot(unit.values(), unit.values()));
  for (int64_t i = 0; i < kOut; ++i) unit.Set(i, unit.At(i) / length);
  TestTensor raw = ShardOf(cutter.Matrix(), Raw());
  SpectralResults r{ShardOf(cutter.Vector(0), TestTensor::F32({kIn})),
                    ShardOf(cutter.Vector(1), unit), ShardOf(cutter.Matrix(), Gradient()), 0.0};
  TestTensor sums(DType::kF64, {1 + std::max(kIn, kOut)}), sigma(DType::kF64, {1});
  const ShardedPowerIteration iteration(tp, cutter.cut);
  for (int step = 0; step < 3; ++step) {
    iteration.Step(*context, raw.view(),
                   {.u = r.u.view(),
                    .v = r.v.view(),
                    .next_u = r.u.view(),
                    .sigma = sigma.view(),
                    .sums = sums.view()});
  }
  r.sigma = sigma.At(0);
  iteration.Backward(*context, raw.view(), r.u.view(), r.v.view(), sigma.view(), sums.view(),
                     r.draw.view());
  return r;
}

TEST(ShardedPowerIterationTest, AnyCutGivesTheSingularValueOfTheWhole) {
  const SpectralResults whole = RunPowerIteration({}, {MatrixCut::kNone, {}});
  for (const MatrixCut cut : {MatrixCut::kRows, MatrixCut::kColumns}) {
    for (const int ranks : {1, 2, 4}) {
      OnLocalRanks(ranks, [&](std::unique_ptr<Communicator> world) {
        const TensorParallel tp(*world, false);
        const Cutter cutter{cut, tp.place()};
        const SpectralResults part = RunPowerIteration(tp, cutter);
        EXPECT_NEAR(part.sigma / whole.sigma, 1.0, 1e-9);
        ExpectShard(part.v, cutter.Vector(0), whole.v, 1e-7);
        ExpectShard(part.u, cutter.Vector(1), whole.u, 1e-7);
        ExpectShard(part.draw, cutter.Matrix(), whole.draw, 1e-5);
      });
    }
  }
}

TEST(ShardedPowerIterationTest, ConvergesToTheLargestSingularValue) {
  // diag(3, 1, …): after some steps σ is 3 and u the first axis.
  TestTensor raw = TestTensor::F32({4, 4});
  for (int64_t i = 0; i < 4; ++i) raw.Set(i * 5, i == 0 ? 3.0 : 1.0);
  TestTensor u = TestTensor::F32({4});
  u.Fill(0.5);
  TestTensor v = TestTensor::F32({4});
  TestTensor sums(DType::kF64, {5}), sigma(DType::kF64, {1});
  const auto context = CpuContext(1);
  for (int step = 0; step < 20; ++step) {
    ShardedPowerIteration().Step(*context, raw.view(),
                                 {.u = u.view(),
                                  .v = v.view(),
                                  .next_u = u.view(),
                                  .sigma = sigma.view(),
                                  .sums = sums.view()});
  }
  EXPECT_NEAR(sigma.At(0), 3.0, 1e-6);
  EXPECT_NEAR(u.At(0), 1.0, 1e-6);
}

TEST(ShardedPowerIterationTest, AZeroMatrixLeavesUAsItIs) {
  TestTensor raw = TestTensor::F32({kIn, kOut});
  TestTensor u = TestTensor::Normal(DType::kF32, {kOut}, 2);
  TestTensor v = TestTensor::Normal(DType::kF32, {kIn}, 9);
  TestTensor next_u = TestTensor::F32({kOut});
  TestTensor sums(DType::kF64, {1 + kIn}), sigma(DType::kF64, {1});
  ShardedPowerIteration().Step(*CpuContext(2), raw.view(),
                               {.u = u.view(),
                                .v = v.view(),
                                .next_u = next_u.view(),
                                .sigma = sigma.view(),
                                .sums = sums.view()});
  EXPECT_EQ(sigma.At(0), kMinSigma);
  EXPECT_EQ(v.values(), Doubles(kIn, 0.0));
  EXPECT_EQ(next_u.bytes(), u.bytes());
}

}  // namespace
}  // namespace entrain
