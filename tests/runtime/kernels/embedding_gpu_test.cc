#include <gtest/gtest.h>

#include "runtime/base/philox.h"
#include "runtime/kernels/embedding.h"
#include "tests/support/gpu_twin.h"

namespace entrain {
namespace {

struct Case {
  int64_t batch;
  int64_t positions;
  int64_t rows;  // of the table
  int64_t width;
  int64_t first_token = 0;
  // Of 100 tokens, those that are token first_token + 3.
  int64_t frequent = 0;
  int64_t tokens = 0;  // that occur: 0 for those of the table
};

// Rows of fours and others, narrower and wider than a block; tokens that fill many windows of the sorted order, or all; tokens of
// other ranks below and above the table; tokens of one, of several and of more tiles than a warp has lanes.
constexpr Case kCases[] = {
    {.batch = 3, .positions = 5, .rows = 7, .width = 137},
    {.batch = 1, .positions = 1, .rows = 1, .width = 4},
    {.batch = 4, .positions = 64, .rows = 300, .width = 64},
    {.batch = 7, .positions = 131, .rows = 50, .width = 36, .frequent = 40},
    {.batch = 2, .positions = 512, .rows = 9, .width = 8, .frequent = 100},
    {.batch = 19, .positions = 37, .rows = 40, .width = 300, .first_token = 30, .tokens = 120},
    {.batch = 9, .positions = 30, .rows = 21, .width = 1100, .frequent = 60},
    {.batch = 24, .positions = 1024, .rows = 50257, .width = 4, .frequent = 10},
    {.batch = 72, .positions = 1024, .rows = 5, .width = 1, .frequent = 10, .tokens = 30}};

double TokenAt(const Case& c, int64_t i) {
  const std::array<uint32_t, 4> random = Philox(11, 5, static_cast<uint64_t>(i));
  if (random[0] % 100 < c.frequent) return static_cast<double>(c.first_token + 3);
  if (c.tokens > 0) return static_cast<double>(random[1] % c.tokens);
  return static_cast<double>(c.first_token + random[1] % c.rows);
}

GpuTwin Tokens(const Case& c) {
  GpuTwin tokens(DType::kI32, {c.batch, c.positions});
  tokens.Set([&](int64_t i) { return TokenAt(c, i); });
  return tokens;
}

TEST(EmbeddingGpuTest, ForwardIsTheCpus) {
  ENTRAIN_REQUIRE_GPU();
  for (const Case& c : kCases) {
    if (c.batch > 20) continue;
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (const bool positions : {false, true}) {
        const int64_t first = 2;
        GpuTwin tokens = Tokens(c);
        GpuTwin wte(dtype, {c.rows, c.width}), wpe(dtype, {c.positions + first, c.width});
        GpuTwin out(DType::kF32, {c.batch * c.positions, c.width});
        wte.Normal(1);
        wpe.Normal(2);
        out.Fill(NAN);
        OnBoth([&](Context& context, auto view) {
          EmbeddingForward(context, {.tokens = view(tokens),
                                     .wte = view(wte),
                                     .wpe = positions ? view(wpe) : TensorView(),
                                     .out = view(out),
                                     .first_position = first,
                                     .first_token = c.first_token});
        });
        EXPECT_EQ(out.gpu.GetDoubles(), out.cpu.values()) << c.rows << " x " << c.width;
      }
    }
  }
}

// dwte and dwpe of a backward pass.
struct Gradients {
  explicit Gradients(const Case& c)
      : dwte(DType::kF32, {c.rows, c.width}), dwpe(DType::kF32, {c.positions + 1, c.width}) {
    dwte.Normal(4);
    dwpe.Normal(5);
  }
  GpuTwin dwte;
  GpuTwin dwpe;
};

Doubles ExpectedTokenGradient(const Case& c, const GpuTwin& dout) {
  Doubles expected = Gradients(c).dwte.cpu.values();
  for (int64_t i = 0; i < dout.cpu.size(); ++i) {
    const auto row = static_cast<int64_t>(TokenAt(c, i / c.width)) - c.first_token;
    if (0 <= row && row < c.rows) expected[row * c.width + i % c.width] += dout.cpu.At(i);
  }
  return expected;
}

TEST(EmbeddingGpuTest, Backward) {
  ENTRAIN_REQUIRE_GPU();
  for (const Case& c : kCases) {
    GpuTwin tokens = Tokens(c);
    GpuTwin dout(DType::kF32, {c.batch * c.positions, c.width});
    dout.Normal(3);
    const Doubles expected = ExpectedTokenGradient(c, dout);
    for (const bool accumulate : {false, true}) {
      SCOPED_TRACE(testing::Message()
                   << c.batch << " x " << c.positions << " tokens, " << c.rows << " x " << c.width);
      Gradients gradients(c), again(c);
      const auto backward = [&](Gradients& to) {
        return [&](Context& context, auto view) {
          EmbeddingBackward(context, {.tokens = view(tokens),
                                      .dout = view(dout),
                                      .dwte = view(to.dwte),
                                      .dwpe = view(to.dwpe),
                                      .accumulate = accumulate,
                                      .first_token = c.first_token});
        };
      };
      OnBoth(backward(gradients));
      OnGpu(backward(again));
      // Sums of partial sums: no less exact than the CPU's.
      EXPECT_LT(RelativeError(gradients.dwte.gpu.GetDoubles(), expected), 1e-6);
      // The same additions in the same order.
      EXPECT_EQ(gradients.dwpe.gpu.GetDoubles(), gradients.dwpe.cpu.values());
      EXPECT_EQ(gradients.dwte.gpu.Bytes(), again.dwte.gpu.Bytes());
    }
  }
}

// In the order of tokens, rows are summed in windows of 64: these tokens' rows fill windows, begin or end at their borders, or
// reach over one or two.
TEST(EmbeddingGpuTest, TokensThatMeetTheBordersOfWindows) {
  ENTRAIN_REQUIRE_GPU();
  constexpr int64_t kCounts[] = {64, 130, 62, 1, 191, 64, 65, 63};
  std::vector<double> sorted;
  for (int64_t token = 0; token < std::ssize(kCounts); ++token) {
    sorted.insert(sorted.end(), static_cast<size_t>(kCounts[token]), static_cast<double>(token));
  }
  const int64_t size = std::ssize(sorted);
  constexpr int64_t kWidth = 12;
  GpuTwin tokens(DType::kI32, {1, size}), dout(DType::kF32, {size, kWidth});
  GpuTwin dwte(DType::kF32, {std::ssize(kCounts), kWidth});
  tokens.Set([&](int64_t i) { return sorted[static_cast<size_t>(i * 77 % size)]; });
  // Sums of integers are exact in any order.
  dout.Set([](int64_t i) { return static_cast<double>(i % 101); });
  dwte.Fill(1000.0);
  OnBoth([&](Context& context, auto view) {
    EmbeddingBackward(context, {.tokens = view(tokens), .dout = view(dout), .dwte = view(dwte)});
  });
  EXPECT_EQ(dwte.gpu.GetDoubles(), dwte.cpu.values());
}

TEST(EmbeddingGpuTest, NoTokens) {
  ENTRAIN_REQUIRE_GPU();
  GpuTensor tokens(DType::kI32, {0, 4}), rows(DType::kF32, {0, 8});
  GpuTensor wte(DType::kF32, {3, 8}), dwpe(DType::kF32, {4, 8});
  dwpe.Fill(NAN);
  EmbeddingForward(Gpu(), {.tokens = tokens, .wte = wte, .out = rows});
  EmbeddingBackward(Gpu(), {.tokens = tokens, .dout = rows, .dwte = wte, .dwpe = dwpe});
  EXPECT_EQ(wte.Get(), std::vector<float>(24, 0.0F));
  EXPECT_EQ(dwpe.Get(), std::vector<float>(32, 0.0F));
}

}  // namespace
}  // namespace entrain
