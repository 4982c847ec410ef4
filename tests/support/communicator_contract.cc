#include "tests/support/communicator_contract.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace entrain {
namespace {

// From one element over the limits between the ways in which a vector travels to several pieces of each.
const std::vector<int64_t>& Sizes() {
  static const std::vector<int64_t> sizes = {1, 2, 3, 7, 64, 1000, 2048, 2049, 100003, 700001};
  return sizes;
}

// An integer below 32: sums over a few ranks are exact even in bf16.
int ValueAt(int rank, int64_t i) { return static_cast<int>((i * 7 + rank * 13) % 31); }

template <typename T>
std::vector<T> VectorOf(int rank, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    values[static_cast<size_t>(i)] = static_cast<T>(static_cast<float>(ValueAt(rank, i)));
  }
  return values;
}

int Reduced(ReduceOp op, int size, int64_t i) {
  int result = ValueAt(0, i);
  for (int r = 1; r < size; ++r) {
    const int value = ValueAt(r, i);
    result = op == ReduceOp::kSum   ? result + value
             : op == ReduceOp::kMax ? std::max(result, value)
                                    : std::min(result, value);
  }
  return result;
}

template <typename T>
TensorView ViewOf(std::vector<T>& values) {
  return {values.data(), DTypeOf<T>::value, {static_cast<int64_t>(values.size())}};
}

// Number of elements in [begin, end) that differ from the reduction.
template <typename T>
int64_t WrongReduced(const std::vector<T>& x, ReduceOp op, int size, ElementRange range) {
  int64_t wrong = 0;
  for (int64_t i = range.begin; i < range.end; ++i) {
    const auto got = static_cast<double>(static_cast<float>(x[static_cast<size_t>(i)]));
    wrong += got != Reduced(op, size, i);
  }
  return wrong;
}

template <typename T>
void AllReduceOf(Communicator& comm) {
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
    for (const int64_t count : Sizes()) {
      std::vector<T> x = VectorOf<T>(comm.rank(), count);
      comm.AllReduce(ViewOf(x), op, "contract");
      EXPECT_EQ(WrongReduced(x, op, comm.size(), {0, count}), 0) << count << " elements";
    }
  }
}

// Uneven: rank r owns a share proportional to r, so that rank 0 owns nothing; a gap at the front.
std::vector<ElementRange> UnevenRanges(int64_t count, int size) {
  std::vector<ElementRange> ranges;
  const int64_t total = std::max(1, size * (size - 1) / 2);
  int64_t begin = std::min<int64_t>(count, 1);
  for (int r = 0; r < size; ++r) {
    const int64_t end = std::min(count, begin + count * r / total);
    ranges.push_back({begin, end});
    begin = end;
  }
  return ranges;
}

void ReduceScatterGivesEachRankItsRange(Communicator& comm) {
  for (const int64_t count : Sizes()) {
    for (const auto& ranges :
         {EvenRanges(count, comm.size(), 16), UnevenRanges(count, comm.size())}) {
      std::vector<float> x = VectorOf<float>(comm.rank(), count);
      comm.ReduceScatter(ViewOf(x), ranges, "contract");
      const ElementRange mine = ranges[static_cast<size_t>(comm.rank())];
      EXPECT_EQ(WrongReduced(x, ReduceOp::kSum, comm.size(), mine), 0) << count << " elements";
    }
  }
}

void AllGatherFillsEveryRange(Communicator& comm) {
  for (const int64_t count : Sizes()) {
    for (const auto& ranges :
         {EvenRanges(count, comm.size(), 16), UnevenRanges(count, comm.size())}) {
      std::vector<float> x = VectorOf<float>(comm.rank(), count);
      std::vector<float> want = x;
      for (int r = 0; r < comm.size(); ++r) {
        const ElementRange range = ranges[static_cast<size_t>(r)];
        for (int64_t i = range.begin; i < range.end; ++i) {
          want[static_cast<size_t>(i)] = static_cast<float>(ValueAt(r, i));
        }
      }
      comm.AllGather(ViewOf(x), ranges, "contract");
      // What lies in no range is this rank's own, untouched.
      EXPECT_EQ(x, want) << count << " elements";
    }
  }
}

void BroadcastFromEveryRoot(Communicator& comm) {
  for (int root = 0; root < comm.size(); ++root) {
    for (const int64_t count : {int64_t{1}, int64_t{2500001}}) {
      std::vector<float> x = VectorOf<float>(comm.rank(), count);
      comm.Broadcast(ViewOf(x), root, "contract");
      EXPECT_EQ(x, VectorOf<float>(root, count));
    }
  }
}

// 2²⁴ + 1 + 1 … is 2²⁴ in fp32 from the left, and more in any other order; and bf16 is summed in fp32.
void SumsAreMadeInRankOrder(Communicator& comm) {
  for (const int64_t count : Sizes()) {
    std::vector<float> x(static_cast<size_t>(count), comm.rank() == 0 ? 16777216.0F : 1.0F);
    comm.AllReduce(ViewOf(x), ReduceOp::kSum, "contract");
    EXPECT_TRUE(std::all_of(x.begin(), x.end(), [](float v) { return v == 16777216.0F; }));
  }
  // In bf16 steps of 2 above 256: 256 + 1 + 1 + … is right only if it is rounded at the end.
  std::vector<Bf16> y(5000, Bf16(comm.rank() == 0 ? 256.0F : 1.0F));
  comm.AllReduce(ViewOf(y), ReduceOp::kSum, "contract");
  const auto want = static_cast<float>(Bf16(256.0F + static_cast<float>(comm.size() - 1)));
  EXPECT_EQ(static_cast<float>(y.front()), want);
  EXPECT_EQ(static_cast<float>(y.back()), want);
}

// Also across ways to travel: an all-reduce is a reduce-scatter and an all-gather, to the bit.
void SumsHaveTheSameBitsHoweverTheyAreMade(Communicator& comm) {
  for (const int64_t count : {int64_t{33}, int64_t{300007}}) {
    std::vector<float> x(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      x[static_cast<size_t>(i)] = std::sin(static_cast<float>(i * (comm.rank() + 3)));
    }
    std::vector<float> y = x;
    comm.AllReduce(ViewOf(x), ReduceOp::kSum, "contract");
    const auto ranges = EvenRanges(count, comm.size());
    comm.ReduceScatter(ViewOf(y), ranges, "contract");
    comm.AllGather(ViewOf(y), ranges, "contract");
    EXPECT_EQ(x, y);
  }
}

void NotANumberIsSeenByAll(Communicator& comm) {
  for (const int64_t count : {int64_t{5}, int64_t{5000}}) {
    std::vector<float> x(static_cast<size_t>(count), 1.0F);
    if (comm.rank() == comm.size() - 1) x[3] = NAN;
    comm.AllReduce(ViewOf(x), ReduceOp::kSum, "contract");
    EXPECT_TRUE(std::isnan(x[3]));
    EXPECT_EQ(x[2], static_cast<float>(comm.size()));
  }
}

// Many at once, waited for in another order than begun.
void OperationsMayOverlap(Communicator& comm) {
  constexpr int kOperations = 40;
  std::vector<std::vector<float>> x;
  std::vector<PendingCollective> pending(kOperations);
  for (int k = 0; k < kOperations; ++k) {
    x.push_back(VectorOf<float>(comm.rank(), Sizes()[static_cast<size_t>(k) % Sizes().size()]));
  }
  for (int k = 0; k < kOperations; ++k) {
    pending[static_cast<size_t>(k)] =
        comm.StartAllReduce(ViewOf(x[static_cast<size_t>(k)]), ReduceOp::kSum, "contract");
    comm.Poll();
  }
  for (int k = kOperations - 1; k >= 0; --k) {
    auto& values = x[static_cast<size_t>(k)];
    pending[static_cast<size_t>(k)].Wait();
    EXPECT_EQ(
        WrongReduced(values, ReduceOp::kSum, comm.size(), {0, static_cast<int64_t>(values.size())}),
        0);
  }
}

// More operations than there are tags.
void OperationsMayBeMany(Communicator& comm) {
  int32_t sum = 0;
  for (int k = 0; k < 3000; ++k) {
    int32_t one = 1;
    comm.AllReduce({&one, DType::kI32, {1}}, ReduceOp::kSum, "contract");
    sum += one;
  }
  EXPECT_EQ(sum, 3000 * comm.size());
}

void AgreeGivesTheWorstToAll(Communicator& comm) {
  EXPECT_TRUE(comm.Agree(absl::OkStatus(), "contract").ok());
  const int last = comm.size() - 1;
  // The last rank wants to stop; then another one fails as well.
  absl::Status mine = comm.rank() == last ? absl::CancelledError("SIGUSR1") : absl::OkStatus();
  absl::Status agreed = comm.Agree(mine, "contract");
  EXPECT_EQ(agreed.code(), absl::StatusCode::kCancelled);
  EXPECT_NE(agreed.message().find("SIGUSR1"), absl::string_view::npos);
  if (comm.rank() == 0) mine = absl::DataLossError("shard_00000: checksum");
  agreed = comm.Agree(mine, "contract");
  EXPECT_EQ(agreed.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(agreed.message(),
            comm.size() == 1 ? "shard_00000: checksum" : "shard_00000: checksum (rank 0)");
}

// Of every length around a word's, none at all, and one that travels in pieces; with bytes of every value.
void GatherTextGivesAllTextsToAll(Communicator& comm) {
  auto text_of = [](int rank, int length) {
    std::string text;
    for (int i = 0; i < length; ++i) text.push_back(static_cast<char>(rank * 31 + i));
    return text;
  };
  for (const int length : {0, 1, 3, 4, 5, 1000, 300000}) {
    for (int alone = -1; alone < comm.size(); ++alone) {  // −1: every rank has a text
      auto expected_of = [&](int rank) {
        return text_of(rank, alone < 0 ? length + rank : alone == rank ? length : 0);
      };
      const std::vector<std::string> texts = comm.GatherText(expected_of(comm.rank()), "contract");
      ASSERT_EQ(texts.size(), static_cast<size_t>(comm.size()));
      for (int r = 0; r < comm.size(); ++r) {
        EXPECT_TRUE(texts[static_cast<size_t>(r)] == expected_of(r)) << "rank " << r;
      }
    }
  }
}

// A mesh: rows and columns of the world, and one collective on each under way at a time.
void SplitMakesAxes(Communicator& comm) {
  const int columns = comm.size() % 2 == 0 ? 2 : 1;
  const int row = comm.rank() / columns;
  const int column = comm.rank() % columns;
  const auto tp = comm.Split(row, column, "tp");
  const auto dp = comm.Split(column, row, "dp");
  EXPECT_EQ(tp->size(), columns);
  EXPECT_EQ(dp->size(), comm.size() / columns);
  EXPECT_EQ(tp->rank(), column);
  EXPECT_EQ(dp->rank(), row);
  EXPECT_EQ(dp->name(), "dp");
  std::vector<float> x(9000, static_cast<float>(comm.rank()));
  std::vector<float> y = x;
  PendingCollective in_row = tp->StartAllReduce(ViewOf(x), ReduceOp::kSum, "contract");
  PendingCollective in_column = dp->StartAllReduce(ViewOf(y), ReduceOp::kSum, "contract");
  in_column.Wait();
  in_row.Wait();
  float row_sum = 0.0F;
  for (int c = 0; c < columns; ++c) row_sum += static_cast<float>(row * columns + c);
  float column_sum = 0.0F;
  for (int r = column; r < comm.size(); r += columns) column_sum += static_cast<float>(r);
  EXPECT_EQ(x.back(), row_sum);
  EXPECT_EQ(y.back(), column_sum);
  // Against the order of ranks.
  const auto reversed = comm.Split(0, -comm.rank(), "reversed");
  EXPECT_EQ(reversed->rank(), comm.size() - 1 - comm.rank());
  reversed->Barrier("contract");
}

// Nobody leaves before everybody has come.
void BarrierHoldsEverybody(Communicator& comm) {
  for (int k = 0; k < 20; ++k) comm.Barrier("contract");
}

}  // namespace

const std::vector<ContractCheck>& CommunicatorContract() {
  static const std::vector<ContractCheck> checks = {
      {"AllReduceF32", AllReduceOf<float>},
      {"AllReduceBf16", AllReduceOf<Bf16>},
      {"AllReduceF64", AllReduceOf<double>},
      {"AllReduceI32", AllReduceOf<int32_t>},
      {"ReduceScatterGivesEachRankItsRange", ReduceScatterGivesEachRankItsRange},
      {"AllGatherFillsEveryRange", AllGatherFillsEveryRange},
      {"BroadcastFromEveryRoot", BroadcastFromEveryRoot},
      {"SumsAreMadeInRankOrder", SumsAreMadeInRankOrder},
      {"SumsHaveTheSameBitsHoweverTheyAreMade", SumsHaveTheSameBitsHoweverTheyAreMade},
      {"NotANumberIsSeenByAll", NotANumberIsSeenByAll},
      {"OperationsMayOverlap", OperationsMayOverlap},
      {"OperationsMayBeMany", OperationsMayBeMany},
      {"AgreeGivesTheWorstToAll", AgreeGivesTheWorstToAll},
      {"GatherTextGivesAllTextsToAll", GatherTextGivesAllTextsToAll},
      {"SplitMakesAxes", SplitMakesAxes},
      {"BarrierHoldsEverybody", BarrierHoldsEverybody},
  };
  return checks;
}

}  // namespace entrain
