#include "launcher/communication_plan.h"

namespace entrain {
namespace {

// Share of a vector that passes a rank when its parts are scattered or gathered over n ranks; an all-reduce is both.
double Once(int ranks) { return static_cast<double>(ranks - 1) / ranks; }
double Twice(int ranks) { return 2.0 * Once(ranks); }

double DpBytes(const TrainConfig& config, const MeshShape& mesh, const Model& model) {
  const auto elements = static_cast<double>(model.params().flat_size());
  const double wire = config.parallel.reduce_precision == Precision::kBf16 ? 2.0 : 4.0;
  if (config.parallel.zero == 0) return Twice(mesh.dp) * elements * wire;
  // A rank that holds nothing for itself has what is gathered: copies, and values that have none.
  const int64_t gathered =
      model.params().BytesNeeded(config.compute_dtype(), false, ElementRange{0, 0});
  return Once(mesh.dp) * (elements * wire + static_cast<double>(gathered));
}

// Over tp, of one micro-step.
class MicroStep {
 public:
  MicroStep(const TrainConfig& config, const MeshShape& mesh)
      : model_(config.model),
        sequence_parallel_(config.parallel.sequence_parallel),
        rows_(static_cast<double>(config.micro_batch(mesh.dp) * config.model.context)),
        once_(Once(mesh.tp)),
        stream_(rows_ * static_cast<double>(config.model.width) * 4.0),
        operand_(stream_ * (config.train.precision == Precision::kBf16 ? 0.5 : 1.0)),
        forwards_(config.train.recompute ? 2.0 : 1.0) {}

  double Bytes() const {
    const auto layers = static_cast<double>(model_.layers);
    const auto ffn_layers = static_cast<double>(model_.layers - model_.ffn_pruned);
    double bytes = Embedding() + Head() + layers * Branch();
    bytes += ffn_layers * (model_.ffn == Ffn::kFused ? FusedFfn() : Branch());
    return bytes;
  }

 private:
  // A column- and a row-parallel matrix, forward and backward: two sums that join the stream; with sequence parallelism each is
  // a reduce-scatter, and rows are gathered before.
  double Branch() const {
    const double pass = once_ * (sequence_parallel_ ? stream_ + operand_ : 2.0 * stream_);
    return (forwards_ + 1.0) * pass;
  }
  double FusedFfn() const { return sequence_parallel_ ? 0.0 : (forwards_ + 1.0) * once_ * stream_; }
  // Backward, its gradient is whole unless the stream is cut.
  double Embedding() const { return 2.0 * once_ * stream_; }
  // Largest logits in fp32, normalizers and targets' logits in fp64, then the input's gradient.
  double Head() const {
    const double softmax = 2.0 * once_ * rows_ * (4.0 + 2.0 * 8.0);
    return softmax + once_ * (sequence_parallel_ ? stream_ + operand_ : 2.0 * stream_);
  }

  const ModelConfig& model_;
  bool sequence_parallel_;
  double rows_;
  double once_;
  double stream_;   // bytes of all rows of the stream, fp32
  double operand_;  // of as many numbers in the compute dtype
  double forwards_;
};

// Once a step: gradients of which each tp rank has a part.
double PartialBytes(const MeshShape& mesh, const Model& model) {
  double elements = 0.0;
  for (int i = 0; i < model.params().size(); ++i) {
    if (!model.params().spec({i}).partial_over_tp) continue;
    elements += static_cast<double>(model.params().padded_size({i}));
  }
  return Twice(mesh.tp) * elements * 4.0;
}

}  // namespace

CommunicationPlan PlanCommunication(const TrainConfig& config, const MeshShape& mesh,
                                    const Model& model) {
  CommunicationPlan plan;
  if (mesh.dp > 1) plan.dp = DpBytes(config, mesh, model);
  if (mesh.tp > 1) {
    plan.tp = static_cast<double>(config.accumulation(mesh.dp)) * MicroStep(config, mesh).Bytes() +
              PartialBytes(mesh, model);
  }
  return plan;
}

}  // namespace entrain
