#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "runtime/base/philox.h"
#include "runtime/kernels/token_sort.cuh"
#include "tests/support/gpu_test.h"

namespace entrain {
namespace {

std::vector<int32_t> Download(const int32_t* from, size_t count) {
  std::vector<int32_t> values(count);
  CopyToHost(Gpu(), from, values.data(), static_cast<int64_t>(count * sizeof(int32_t)));
  return values;
}

void ExpectSorted(int64_t count, int64_t first_token, int64_t table_rows, uint32_t tokens) {
  std::vector<int32_t> batch, rows;
  for (int64_t i = 0; i < count; ++i) {
    const auto word = Philox(3, 4, static_cast<uint64_t>(i))[0];
    batch.push_back(static_cast<int32_t>(word % tokens));
    const int64_t row = batch.back() - first_token;
    rows.push_back(static_cast<int32_t>(0 <= row && row < table_rows ? row : table_rows));
  }
  std::vector<int32_t> positions(rows.size());
  std::iota(positions.begin(), positions.end(), 0);
  std::stable_sort(positions.begin(), positions.end(),
                   [&](int32_t a, int32_t b) { return rows[a] < rows[b]; });
  std::stable_sort(rows.begin(), rows.end());
  GpuTensor on_gpu(DType::kI32, {count});
  on_gpu.SetInts(batch);
  const cuda::SortedTokens sorted =
      cuda::SortTokens(Gpu(), on_gpu.view().data<int32_t>(), count, first_token, table_rows);
  EXPECT_EQ(Download(sorted.row, rows.size()), rows) << count << " tokens";
  EXPECT_EQ(Download(sorted.position, rows.size()), positions) << count << " tokens";
}

TEST(TokenSortGpuTest, IsStableSort) {
  ENTRAIN_REQUIRE_GPU();
  ExpectSorted(1, 0, 1, 1);
  ExpectSorted(7, 0, 15, 15);
  ExpectSorted(2048, 0, 16, 16);
  ExpectSorted(2049, 5, 255, 300);
  ExpectSorted(10001, 0, 50257, 50257);
  ExpectSorted(10001, 12564, 12564, 50257);
  // More tiles than a warp has lanes.
  ExpectSorted(70000, 0, 70000, 4);
}

}  // namespace
}  // namespace entrain
