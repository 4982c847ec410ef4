// Attention by cuDNN without a GPU: its graphs say what they should (computed on the CPU in float64), and cuDNN makes plans
// of them for devices that this machine lacks, which includes compiling their kernels. Whether the kernels compute what the
// graphs say takes a GPU: attention_cudnn_gpu_test.
#include <gtest/gtest.h>

#ifdef ENTRAIN_CUDNN

#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "runtime/base/philox.h"
#include "runtime/kernels/attention_cudnn_cuda.h"
#include "runtime/kernels/attention_graph_cuda.h"
#include "runtime/kernels/cudnn_library_cuda.h"
#include "tests/support/attention_reference.h"
#include "tests/support/cudnn_graph_reference.h"

#ifdef __SANITIZE_ADDRESS__
// What leaks here leaks in cuDNN's compiler, which is unloaded before anyone could be named.
extern "C" int __lsan_is_turned_off() { return 1; }  // NOLINT(bugprone-reserved-identifier)
#endif

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Doubles = std::vector<double>;

#define REQUIRE_CUDNN() \
  if (!cudnn::Load().ok()) GTEST_SKIP() << cudnn::Load().message()

constexpr auto kHeadEntropy = AttentionPass::kBackwardHeadEntropy;
constexpr auto kRowEntropy = AttentionPass::kBackwardRowEntropy;

// ---- the graphs ----

Doubles Normal(int64_t count, uint64_t stream) {
  Doubles values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = NormalAt(5, stream, i);
  return values;
}

struct Operands {
  AttentionShape shape;
  Doubles qkv, out, dout, lse, entropy, entropy_gradient, dqkv, row_dot, dq_sum;

  explicit Operands(const AttentionShape& s) : shape(s) {
    const int64_t rows = s.batch * s.heads * s.positions;
    qkv = Normal(3 * rows * s.width, 1);
    dout = Normal(rows * s.width, 2);
    entropy_gradient = Normal(rows, 3);
    out.assign(rows * s.width, NAN);
    dqkv.assign(3 * rows * s.width, NAN);
    lse.assign(rows, NAN);
    entropy.assign(rows, NAN);
    row_dot.assign(rows, NAN);
    dq_sum.assign(rows * s.width, NAN);
  }

  // Of a [B, T, parts, H, D] tensor, the rows of one part and head.
  int64_t At(int64_t b, int64_t i, int64_t part, int64_t parts, int64_t h) const {
    return (((b * shape.positions + i) * parts + part) * shape.heads + h) * shape.width;
  }
  Doubles Rows(const Doubles& from, int64_t b, int64_t part, int64_t parts, int64_t h) const {
    Doubles rows;
    for (int64_t i = 0; i < shape.positions; ++i) {
      const auto row = from.begin() + At(b, i, part, parts, h);
      rows.insert(rows.end(), row, row + shape.width);
    }
    return rows;
  }
};

void Compute(const CudnnAttention::Key& key, Operands& operands) {
  auto graph = BuildAttentionGraph(key);
  ASSERT_TRUE(graph.ok()) << graph.status();
  CudnnGraphReference reference;
  const int64_t part = key.shape.heads * key.shape.width;
  reference.Bind(graph->q, operands.qkv.data());
  reference.Bind(graph->k, operands.qkv.data() + part);
  reference.Bind(graph->v, operands.qkv.data() + 2 * part);
  reference.Bind(graph->out, operands.out.data());
  reference.Bind(graph->lse, operands.lse.data());
  if (key.pass != AttentionPass::kForward) {
    reference.Bind(graph->dout, operands.dout.data());
    reference.Bind(graph->row_dot, operands.row_dot.data());
    reference.Bind(graph->dq, operands.dqkv.data());
    reference.Bind(graph->dk, operands.dqkv.data() + part);
    reference.Bind(graph->dv, operands.dqkv.data() + 2 * part);
    if (graph->dq_sum.id != 0) reference.Bind(graph->dq_sum, operands.dq_sum.data());
    if (graph->entropy.id != 0) reference.Bind(graph->entropy, operands.entropy.data());
    if (graph->entropy_gradient.id != 0) {
      reference.Bind(graph->entropy_gradient, operands.entropy_gradient.data());
    }
  }
  reference.Run(*graph->graph);
}

void ExpectNear(const Doubles& actual, const Doubles& expected, const std::string& name) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    // Scalars of a graph are floats: its scale is 1/√D, rounded.
    ASSERT_NEAR(actual[i], expected[i], 1e-6 * (1.0 + std::abs(expected[i]))) << name << " " << i;
  }
}

AttentionReference MakeReference(const Operands& operands, int64_t b, int64_t h) {
  AttentionReference reference;
  reference.length = operands.shape.positions;
  reference.width = operands.shape.width;
  reference.q = operands.Rows(operands.qkv, b, 0, 3, h);
  reference.k = operands.Rows(operands.qkv, b, 1, 3, h);
  reference.v = operands.Rows(operands.qkv, b, 2, 3, h);
  reference.temperature.assign(reference.length, 1.0);
  reference.Forward();
  return reference;
}

Doubles EntropyGradient(const Operands& operands, AttentionPass pass, int64_t b, int64_t h) {
  const int64_t length = operands.shape.positions;
  Doubles gradient(length, 0.0);
  for (int64_t i = 0; i < length; ++i) {
    if (pass == kHeadEntropy) gradient[i] = operands.entropy_gradient[h];
    if (pass == kRowEntropy) {
      gradient[i] = operands.entropy_gradient[(b * operands.shape.heads + h) * length + i];
    }
  }
  return gradient;
}

TEST(AttentionGraphTest, ForwardIsAttention) {
  REQUIRE_CUDNN();
  Operands operands({2, 7, 3, 8});
  Compute({AttentionPass::kForward, operands.shape}, operands);
  for (int64_t b = 0; b < operands.shape.batch; ++b) {
    for (int64_t h = 0; h < operands.shape.heads; ++h) {
      const AttentionReference reference = MakeReference(operands, b, h);
      ExpectNear(operands.Rows(operands.out, b, 0, 1, h), reference.out, "out");
      const auto lse = operands.lse.begin() + (b * operands.shape.heads + h) * reference.length;
      ExpectNear({lse, lse + reference.length}, reference.lse, "lse");
    }
  }
}

class BackwardGraphTest : public testing::TestWithParam<std::tuple<AttentionPass, bool>> {};

TEST_P(BackwardGraphTest, GivesTheGradients) {
  REQUIRE_CUDNN();
  const auto [pass, deterministic] = GetParam();
  Operands operands({2, 7, 3, 8});
  const AttentionShape& shape = operands.shape;
  Compute({AttentionPass::kForward, shape}, operands);
  std::map<std::pair<int64_t, int64_t>, AttentionReference> references;
  for (int64_t b = 0; b < shape.batch; ++b) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      AttentionReference reference = MakeReference(operands, b, h);
      reference.Backward(operands.Rows(operands.dout, b, 0, 1, h),
                         EntropyGradient(operands, pass, b, h));
      std::copy(reference.entropy.begin(), reference.entropy.end(),
                operands.entropy.begin() + (b * shape.heads + h) * shape.positions);
      references[{b, h}] = reference;
    }
  }
  Compute({pass, shape, deterministic}, operands);
  for (const auto& [at, reference] : references) {
    const auto [b, h] = at;
    ExpectNear(operands.Rows(operands.dqkv, b, 0, 3, h), reference.dq, "dq");
    ExpectNear(operands.Rows(operands.dqkv, b, 1, 3, h), reference.dk, "dk");
    ExpectNear(operands.Rows(operands.dqkv, b, 2, 3, h), reference.dv, "dv");
  }
}

INSTANTIATE_TEST_SUITE_P(Passes, BackwardGraphTest,
                         testing::Combine(testing::Values(AttentionPass::kBackward, kHeadEntropy,
                                                          kRowEntropy),
                                          testing::Bool()));

TEST(CudnnLibraryTest, IsFoundOrSaysWhatIsWanted) {
  const absl::Status found = cudnn::Load();
  if (found.ok()) {
    EXPECT_THAT(cudnn::Version(), testing::MatchesRegex("9\\.[0-9]+\\.[0-9]+"));
  } else {
    EXPECT_THAT(found.message(), HasSubstr("cuDNN 9.11 or newer"));
    EXPECT_EQ(CudnnAttention::CreateFor("{}").status(), found);
    EXPECT_EQ(cudnn::Descriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR).Finalize(), found);
  }
}

TEST(CudnnGraphTest, SaysWhatIsWrongWithAnOperation) {
  REQUIRE_CUDNN();
  cudnn::Graph graph;
  const cudnn::Dims dims = {1, 1, 8, 16};
  const cudnn::Tensor x = graph.Real(dims, cudnn::PackedStrides(dims), CUDNN_DATA_BFLOAT16);
  graph.Matmul(x, x);
  EXPECT_THAT(graph.Finalize().message(), HasSubstr("CUDNN_STATUS_BAD_PARAM"));
}

// ---- plans for devices that are not here ----

std::string DeviceText(const std::string& name) {
  std::ifstream file(absl::StrCat(ENTRAIN_TEST_DATA_DIR, "/devices/", name, ".json"));
  return {std::istreambuf_iterator<char>(file), {}};
}

// One for the program: plans that several tests want are made once.
CudnnAttention& On(const std::string& device) {
  static std::map<std::string, std::unique_ptr<CudnnAttention>> engines;
  std::unique_ptr<CudnnAttention>& engine = engines[device];
  if (!engine) engine = CudnnAttention::CreateFor(DeviceText(device)).value();
  return *engine;
}

constexpr AttentionShape kGpt2 = {8, 1024, 12, 64};

AttentionShape Gpt2At(int64_t positions) {
  AttentionShape shape = kGpt2;
  shape.positions = positions;
  return shape;
}

class PlanTest : public testing::TestWithParam<std::tuple<std::string, AttentionPass, int64_t>> {};

TEST_P(PlanTest, IsMade) {
  REQUIRE_CUDNN();
  const auto& [device, pass, positions] = GetParam();
  const AttentionShape shape = Gpt2At(positions);
  const int64_t rows = shape.batch * shape.heads * shape.positions;
  auto free = On(device).Prepare({pass, shape, false});
  ASSERT_TRUE(free.ok()) << free.status();
  auto fixed = On(device).Prepare({pass, shape, true});
  ASSERT_TRUE(fixed.ok()) << fixed.status();
  if (pass == AttentionPass::kForward) {
    EXPECT_LT(fixed->workspace_bytes, rows * 4);
    return;
  }
  EXPECT_GE(free->workspace_bytes, rows * shape.width * 4) << "dq is summed in fp32";
  EXPECT_GE(fixed->workspace_bytes, rows * shape.positions * 2) << "dS is stored";
}

INSTANTIATE_TEST_SUITE_P(Hopper, PlanTest,
                         testing::Combine(testing::Values("h200"),
                                          testing::Values(AttentionPass::kForward,
                                                          AttentionPass::kBackward, kHeadEntropy,
                                                          kRowEntropy),
                                          testing::Values(128, 512, 1024)));
INSTANTIATE_TEST_SUITE_P(Ampere, PlanTest,
                         testing::Combine(testing::Values("a100"),
                                          testing::Values(AttentionPass::kForward,
                                                          AttentionPass::kBackward),
                                          testing::Values(128, 512, 1024)));

TEST(CudnnAttentionTest, AmpereHasNoEntropyGradientAndSaysWhy) {
  REQUIRE_CUDNN();
  for (const AttentionPass pass : {kHeadEntropy, kRowEntropy}) {
    for (const bool deterministic : {false, true}) {
      const absl::Status status = On("a100").Supported({pass, kGpt2, deterministic});
      EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
      EXPECT_THAT(status.message(),
                  AllOf(HasSubstr("entropy gradient"), HasSubstr("Only 2 sq broadcasted vectors")));
    }
  }
}

TEST(CudnnAttentionTest, SaysWhyAWidthIsNotSupported) {
  REQUIRE_CUDNN();
  AttentionShape shape = kGpt2;
  shape.width = 68;
  EXPECT_THAT(On("h200").Supported({AttentionPass::kBackward, shape}).message(),
              HasSubstr("not a multiple of 8"));
}

TEST(CudnnAttentionTest, TakesOddLengthsAndOtherWidths) {
  REQUIRE_CUDNN();
  for (const AttentionShape& shape : {AttentionShape{1, 1, 1, 8}, AttentionShape{3, 100, 5, 64},
                                      AttentionShape{2, 333, 2, 128}}) {
    const absl::Status status = On("h200").Supported({kRowEntropy, shape, false});
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST(CudnnAttentionTest, RefusesAnEmptyShape) {
  REQUIRE_CUDNN();
  EXPECT_EQ(On("h200").Supported({AttentionPass::kForward, {8, 0, 12, 64}}).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(CudnnAttentionTest, CannotRunOnADescribedDevice) {
  REQUIRE_CUDNN();
  CudnnAttention& attention = On("h200");
  EXPECT_EQ(attention.Forward(kGpt2, {}, nullptr, nullptr).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(attention.Backward({kRowEntropy, kGpt2}, {}, nullptr, nullptr).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(CudnnAttentionTest, IsNamedByItsVersion) {
  REQUIRE_CUDNN();
  EXPECT_THAT(On("h200").Name(), testing::MatchesRegex("cuDNN [0-9]+\\.[0-9]+\\.[0-9]+"));
}

TEST(CudnnAttentionTest, RefusesADescriptionThatIsNone) {
  REQUIRE_CUDNN();
  EXPECT_FALSE(CudnnAttention::CreateFor("{").ok());
}

}  // namespace
}  // namespace entrain

#else

TEST(CudnnAttentionTest, IsLeftOut) { GTEST_SKIP() << "built without cuDNN"; }

#endif  // ENTRAIN_CUDNN
