// Attention's two backwards side by side.
#include <initializer_list>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "runtime/device/buffer.h"
#include "runtime/kernels/attention_engine_cuda.h"
#include "runtime/kernels/measuring_cuda.h"

namespace entrain::cuda {
namespace {

// Operands of a backward, those that the forward makes among them.
class BackwardOperands {
 public:
  explicit BackwardOperands(const AttentionWork& w) {
    const std::initializer_list<int64_t> qkv = {w.batch, w.positions, 3, w.heads, w.width};
    const std::initializer_list<int64_t> out = {w.batch, w.positions, w.heads, w.width};
    const std::initializer_list<int64_t> rows = {w.batch, w.heads, w.positions};
    Place(args_.qkv, w.dtype, qkv);
    Place(args_.dqkv, w.dtype, qkv);
    Place(args_.out, w.dtype, out);
    Place(args_.dout, w.dtype, out);
    Place(args_.lse, DType::kF32, rows);
    Place(args_.lse_low, DType::kF32, rows);
    Place(args_.entropy, DType::kF32, rows);
    if (w.entropy_gradient == EntropyGradientKind::kHead) {
      Place(args_.entropy_gradient, DType::kF32, {w.heads});
    } else if (w.entropy_gradient == EntropyGradientKind::kRow) {
      Place(args_.entropy_gradient, DType::kF32, rows);
    }
  }

  int64_t bytes() const { return bytes_; }
  // Takes memory and runs the forward.
  void Fill(Context& context) {
    memory_ = Buffer(DeviceKind::kCuda, bytes_);
    for (const auto& [view, at] : places_) {
      *view = view->Over(static_cast<char*>(memory_.data()) + at);
    }
    for (const TensorView& input : {args_.qkv, args_.dout, args_.entropy_gradient}) {
      if (!input) continue;
      FillWithPattern(context, input.raw(), input.bytes(), RandomPattern(input.dtype()));
    }
    entrain::AttentionForward(context, {.qkv = args_.qkv,
                                        .out = args_.out,
                                        .lse = args_.lse,
                                        .lse_low = args_.lse_low,
                                        .entropy = args_.entropy});
  }
  const AttentionBackwardArgs& args() const { return args_; }

 private:
  void Place(TensorView& view, DType dtype, std::initializer_list<int64_t> dims) {
    view = TensorView(nullptr, dtype, dims);
    places_.emplace_back(&view, bytes_);
    bytes_ += Buffer::Aligned(view.bytes());
  }

  AttentionBackwardArgs args_;
  std::vector<std::pair<TensorView*, int64_t>> places_;
  int64_t bytes_ = 0;
  Buffer memory_;
};

// In turn, so that a clock that changes meets both.
AttentionTimes TimeBoth(Context& context, const AttentionBackwardArgs& args, int rounds) {
  AttentionEngines& engines = AttentionEngines::Of(context);
  Stopwatch stopwatch;
  std::vector<double> times[2];
  for (int round = -1; round < rounds; ++round) {
    for (const bool cudnn : {false, true}) {
      engines.set_paused(!cudnn);
      const double ms = stopwatch.Time(context, [&] { entrain::AttentionBackward(context, args); });
      if (round >= 0) times[cudnn ? 1 : 0].push_back(ms);  // the first also loads the kernels
    }
  }
  return {.entrain_ms = Median(times[0]), .cudnn_ms = Median(times[1])};
}

}  // namespace

absl::StatusOr<AttentionTimes> TimeAttentionBackward(Context& context, const AttentionWork& work,
                                                     const AttentionTiming& timing,
                                                     int64_t most_bytes) {
  AttentionEngines& engines = AttentionEngines::Of(context);
  ASSIGN_OR_RETURN(const CudnnBackward found, engines.Find(context, work));
  BackwardOperands operands(work);
  if (operands.bytes() + found.workspace_bytes > most_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("cuDNN's deterministic backward takes a workspace of %.0f MB, too much "
                        "beside what the run takes",
                        static_cast<double>(found.workspace_bytes) / 1e6));
  }
  operands.Fill(context);
  RETURN_IF_ERROR(engines.Use(context, work).status());
  const AttentionTimes times = TimeBoth(context, operands.args(), timing.rounds);
  engines.Forget();
  return times;
}

}  // namespace entrain::cuda
