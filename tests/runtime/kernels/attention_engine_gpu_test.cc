// The choice between attention's two backwards, with a cuDNN of the test's own: the library is not on every machine, nor does the
// emulated GPU have one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/philox.h"
#include "runtime/device/cuda_device.h"
#include "runtime/kernels/attention.h"
#include "runtime/kernels/attention_engine.h"
#include "tests/support/fake_cudnn.h"
#include "tests/support/gpu_test.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

constexpr AttentionWork kWork = {.batch = 2,
                                 .positions = 33,
                                 .heads = 2,
                                 .width = 32,
                                 .dtype = DType::kBf16,
                                 .entropy_gradient = EntropyGradientKind::kHead};
// A backward of some work. Its operands are made by a forward.
class Backward {
 public:
  Backward(Context& context, const AttentionWork& w)
      : context_(context),
        qkv_(w.dtype, {w.batch, w.positions, 3, w.heads, w.width}),
        dqkv_(w.dtype, {w.batch, w.positions, 3, w.heads, w.width}),
        out_(w.dtype, {w.batch, w.positions, w.heads, w.width}),
        dout_(w.dtype, {w.batch, w.positions, w.heads, w.width}),
        lse_(DType::kF32, {w.batch, w.heads, w.positions}),
        entropy_(DType::kF32, {w.batch, w.heads, w.positions}),
        head_gradient_(DType::kF32, {w.heads}),
        row_gradient_(DType::kF32, {w.batch, w.heads, w.positions}) {
    uint64_t stream = 0;
    for (GpuTensor* tensor : {&qkv_, &dout_, &head_gradient_, &row_gradient_}) {
      std::vector<float> values(static_cast<size_t>(tensor->view().size()));
      for (size_t i = 0; i < values.size(); ++i) values[i] = NormalAt(3, stream, i);
      tensor->Set(values);
      ++stream;
    }
    Synchronize(Gpu());
    AttentionForward(context_, {.qkv = qkv_, .out = out_, .lse = lse_, .entropy = entropy_});
    Synchronize(context_);
  }

  // dqkv's bytes.
  std::vector<uint8_t> Run(EntropyGradientKind gradient = EntropyGradientKind::kNone) {
    dqkv_.Fill(NAN);
    Synchronize(Gpu());
    AttentionBackwardArgs args{
        .qkv = qkv_, .out = out_, .dout = dout_, .lse = lse_, .entropy = entropy_, .dqkv = dqkv_};
    if (gradient == EntropyGradientKind::kHead) args.entropy_gradient = head_gradient_;
    if (gradient == EntropyGradientKind::kRow) args.entropy_gradient = row_gradient_;
    AttentionBackward(context_, args);
    Synchronize(context_);
    return dqkv_.Bytes();
  }
  const GpuTensor& head_gradient() const { return head_gradient_; }
  const GpuTensor& entropy() const { return entropy_; }
  const GpuTensor& qkv() const { return qkv_; }

 private:
  Context& context_;
  GpuTensor qkv_, dqkv_, out_, dout_, lse_, entropy_, head_gradient_, row_gradient_;
};

bool IsMarked(const std::vector<uint8_t>& bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](uint8_t byte) { return byte == FakeCudnn::kMark; });
}

TEST(AttentionEngineTest, OursDoesAllThatNobodyChoseOtherwise) {
  ENTRAIN_REQUIRE_GPU();
  FakeCudnn::Asked asked;
  const auto context = FakeCudnn::ContextWith(asked);
  EXPECT_FALSE(IsMarked(Backward(*context, kWork).Run(EntropyGradientKind::kHead)));
  EXPECT_TRUE(asked.prepared.empty());
}

TEST(AttentionEngineTest, CudnnDoesTheChosenWorkAndNoOther) {
  ENTRAIN_REQUIRE_GPU();
  FakeCudnn::Asked asked;
  const auto context = FakeCudnn::ContextWith(asked);
  Backward backward(*context, kWork);
  const std::vector<uint8_t> ours = backward.Run(EntropyGradientKind::kHead);
  const auto used = UseCudnnBackward(*context, kWork);
  ASSERT_TRUE(used.ok()) << used.status();
  EXPECT_EQ(used->name, "cuDNN 9.99.0");
  EXPECT_EQ(used->workspace_bytes, 4096) << "of the pass that needs most";

  EXPECT_TRUE(IsMarked(backward.Run(EntropyGradientKind::kHead)));
  EXPECT_EQ(asked.run.back().pass, AttentionPass::kBackwardHeadEntropy);
  EXPECT_TRUE(asked.run.back().deterministic);
  EXPECT_EQ(asked.operands.qkv, backward.qkv().view().raw());
  EXPECT_EQ(asked.operands.entropy, backward.entropy().view().raw());
  EXPECT_EQ(asked.operands.entropy_gradient, backward.head_gradient().view().raw());
  EXPECT_NE(asked.workspace, nullptr);
  EXPECT_TRUE(IsMarked(backward.Run()));
  EXPECT_EQ(asked.run.back().pass, AttentionPass::kBackward);
  EXPECT_EQ(asked.operands.entropy_gradient, nullptr);

  EXPECT_FALSE(IsMarked(backward.Run(EntropyGradientKind::kRow))) << "not of this work";
  AttentionWork shorter = kWork;
  shorter.positions = 17;
  EXPECT_FALSE(IsMarked(Backward(*context, shorter).Run()));
  EXPECT_EQ(asked.run.size(), 2U);

  UseOwnBackward(*context);
  EXPECT_EQ(backward.Run(EntropyGradientKind::kHead), ours);
}

TEST(AttentionEngineTest, RefusesWhatCudnnLacksWithoutAskingIt) {
  ENTRAIN_REQUIRE_GPU();
  FakeCudnn::Asked asked;
  const auto context = FakeCudnn::ContextWith(asked);
  AttentionWork work = kWork;
  work.temperature = true;
  EXPECT_THAT(std::string(UseCudnnBackward(*context, work).status().message()),
              HasSubstr("model.temperature"));
  work = kWork;
  work.dtype = DType::kF32;
  EXPECT_THAT(std::string(UseCudnnBackward(*context, work).status().message()),
              HasSubstr("train.precision"));
  EXPECT_TRUE(asked.prepared.empty());
}

TEST(AttentionEngineTest, ARefusalOfCudnnsChangesNothing) {
  ENTRAIN_REQUIRE_GPU();
  FakeCudnn::Asked asked;
  asked.refusal = absl::UnimplementedError("no such engine");
  const auto context = FakeCudnn::ContextWith(asked);
  const auto used = UseCudnnBackward(*context, kWork);
  EXPECT_EQ(used.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(used.status().message()), HasSubstr("no such engine"));
  EXPECT_FALSE(IsMarked(Backward(*context, kWork).Run()));
}

TEST(AttentionEngineTest, TimesBothAndLeavesTheChoiceOpen) {
  ENTRAIN_REQUIRE_GPU();
  FakeCudnn::Asked asked;
  const auto context = FakeCudnn::ContextWith(asked);
  const auto times = TimeAttentionBackward(*context, kWork, {.rounds = 3}, int64_t{1} << 30);
  ASSERT_TRUE(times.ok()) << times.status();
  EXPECT_GT(times->entrain_ms, 0.0);
  EXPECT_GE(times->cudnn_ms, 0.0);
  EXPECT_EQ(asked.run.size(), 4U) << "three rounds, and one before that loads the kernels";
  EXPECT_EQ(asked.run.back().pass, AttentionPass::kBackwardHeadEntropy);
  EXPECT_FALSE(IsMarked(Backward(*context, kWork).Run()));
  EXPECT_EQ(TimeAttentionBackward(*context, kWork, {}, 4096).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(AttentionEngineTest, ACpuHasNoCudnn) {
  EXPECT_THAT(std::string(UseCudnnBackward(Cpu(), kWork).status().message()), HasSubstr("CPU"));
  EXPECT_FALSE(TimeAttentionBackward(Cpu(), kWork, {}, 0).ok());
  UseOwnBackward(Cpu());
}

TEST(AttentionEngineTest, TheWorkspaceIsThatOfAllScores) {
  EXPECT_EQ(EstimateCudnnWorkspace({.batch = 8, .positions = 1024, .heads = 12, .width = 64}),
            8 * 12 * 1024 * (1024 * 2 + 4));
}

// On a GPU that has the library: the same gradients, to bf16's rounding.
TEST(AttentionEngineTest, TheRealOneAgreesWithOurs) {
  ENTRAIN_REQUIRE_GPU();
  const auto context = Context::CreateCuda(Gpu().cuda().ordinal, 1).value();
  AttentionWork work = kWork;
  work.positions = 256;
  work.width = 64;
  if (const auto found = FindCudnnBackward(*context, work); !found.ok()) {
    GTEST_SKIP() << found.status().message();
  }
  Backward backward(*context, work);
  const auto values = [](const std::vector<uint8_t>& bytes) {
    std::vector<Bf16> elements(bytes.size() / 2);
    std::memcpy(elements.data(), bytes.data(), bytes.size());
    return elements;
  };
  const auto ours = values(backward.Run(EntropyGradientKind::kHead));
  ASSERT_TRUE(UseCudnnBackward(*context, work).ok());
  const std::vector<uint8_t> bytes = backward.Run(EntropyGradientKind::kHead);
  const auto cudnns = values(bytes);
  for (size_t i = 0; i < ours.size(); ++i) {
    const auto a = static_cast<float>(ours[i]), b = static_cast<float>(cudnns[i]);
    ASSERT_NEAR(a, b, 3e-2F * (1.0F + std::abs(a))) << i;
  }
  EXPECT_EQ(backward.Run(EntropyGradientKind::kHead), bytes) << "deterministic";
}

}  // namespace
}  // namespace entrain
