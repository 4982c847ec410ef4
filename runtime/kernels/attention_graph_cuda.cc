#ifdef ENTRAIN_CUDNN

#include "runtime/kernels/attention_graph_cuda.h"

#include <cmath>
#include <limits>
#include <memory>
#include <utility>

namespace entrain {
namespace {

using cudnn::Dims;
using cudnn::Graph;
using cudnn::Tensor;

constexpr cudnnDataType_t kBf16 = CUDNN_DATA_BFLOAT16;
constexpr cudnnDataType_t kF32 = CUDNN_DATA_FLOAT;

// q, k or v of [B, T, 3, H, D], or a gradient of theirs.
Tensor Packed(Graph& graph, const AttentionShape& shape) {
  const auto [batch, positions, heads, width] = shape;
  const int64_t row = 3 * heads * width;
  return graph.Real({batch, heads, positions, width}, {positions * row, width, row, 1}, kBf16);
}

// The same, transposed: rows are columns.
Tensor PackedTransposed(Graph& graph, const AttentionShape& shape) {
  const auto [batch, positions, heads, width] = shape;
  const int64_t row = 3 * heads * width;
  return graph.Real({batch, heads, width, positions}, {positions * row, width, 1, row}, kBf16);
}

// [B, T, H, D]
Tensor Output(Graph& graph, const AttentionShape& shape) {
  const auto [batch, positions, heads, width] = shape;
  const int64_t row = heads * width;
  return graph.Real({batch, heads, positions, width}, {positions * row, width, row, 1}, kBf16);
}

Tensor Dense(Graph& graph, const Dims& dims) {
  return graph.Real(dims, cudnn::PackedStrides(dims), kF32);
}

// [B, H, T]
Tensor Rows(Graph& graph, const AttentionShape& shape) {
  return Dense(graph, {shape.batch, shape.heads, shape.positions, 1});
}

Tensor Scale(Graph& graph, const AttentionShape& shape) {
  return graph.Scalar(1.0F / std::sqrt(static_cast<float>(shape.width)));
}

// −∞ behind the diagonal: the engines know this form, and skip blocks which are all masked. What is multiplied by a masked
// probability, exp(−∞) = 0, must be finite: it is made of scores before the mask.
Tensor CausalMask(Graph& graph, const Tensor& scores) {
  const Tensor seen = graph.Pointwise(CUDNN_POINTWISE_CMP_GE, graph.Index(scores, 2),
                                      graph.Index(scores, 3), CUDNN_DATA_BOOLEAN);
  return graph.Select(seen, scores, graph.Scalar(-std::numeric_limits<float>::infinity()));
}

void BuildForward(Graph& graph, const AttentionShape& shape, AttentionGraph& tensors) {
  tensors.q = Packed(graph, shape);
  tensors.k = PackedTransposed(graph, shape);
  tensors.v = Packed(graph, shape);
  tensors.out = Output(graph, shape);
  tensors.lse = Rows(graph, shape);
  const Tensor scores =
      graph.Pointwise(CUDNN_POINTWISE_MUL, graph.Matmul(tensors.q, tensors.k), Scale(graph, shape));
  const Tensor masked = CausalMask(graph, scores);
  const Tensor maximum = graph.ReduceColumns(CUDNN_REDUCE_TENSOR_MAX, masked);
  const Tensor shifted = graph.Pointwise(CUDNN_POINTWISE_SUB, masked, maximum);
  const Tensor exponential = graph.Pointwise(CUDNN_POINTWISE_EXP, shifted, kF32);
  const Tensor sum = graph.ReduceColumns(CUDNN_REDUCE_TENSOR_ADD, exponential);
  const Tensor log_sum = graph.Pointwise(CUDNN_POINTWISE_LOG, sum, kF32);
  graph.PointwiseInto(CUDNN_POINTWISE_ADD, {maximum, log_sum}, tensors.lse);
  const Tensor probabilities = graph.Pointwise(CUDNN_POINTWISE_DIV, exponential, sum, kBf16);
  graph.MatmulInto(probabilities, tensors.v, tensors.out);
}

// D_i = Σ_d dout·out. The engines want a factor behind the sum (their dropout's), here 1.
void BuildRowDot(Graph& graph, const AttentionGraph& tensors) {
  const Tensor products = graph.Pointwise(CUDNN_POINTWISE_MUL, tensors.dout, tensors.out);
  const Tensor sum = graph.ReduceColumns(CUDNN_REDUCE_TENSOR_ADD, products);
  graph.PointwiseInto(CUDNN_POINTWISE_MUL, {sum, graph.Scalar(1.0F)}, tensors.row_dot);
}

// The scores' gradient a·(dP − D − g·(log a + H)), times the scale. Row vectors are LSE, D, H and g, as many as the engine
// for Hopper takes; that for A100 takes two.
Tensor BuildScoreGradient(Graph& graph, const AttentionGraph& tensors, const Tensor& log_a,
                          const Tensor& a, const Tensor& scale) {
  const Tensor dp = graph.Matmul(tensors.dout, tensors.v);
  Tensor inner = graph.Pointwise(CUDNN_POINTWISE_SUB, dp, tensors.row_dot);
  if (tensors.entropy_gradient.id != 0) {
    const Tensor surprise = graph.Pointwise(CUDNN_POINTWISE_ADD, log_a, tensors.entropy);
    const Tensor pull = graph.Pointwise(CUDNN_POINTWISE_MUL, surprise, tensors.entropy_gradient);
    inner = graph.Pointwise(CUDNN_POINTWISE_SUB, inner, pull);
  }
  const Tensor ds = graph.Pointwise(CUDNN_POINTWISE_MUL, inner, a);
  return graph.Pointwise(CUDNN_POINTWISE_MUL, ds, scale);
}

// Declares the real tensors of a backward.
void DeclareBackward(Graph& graph, const CudnnAttention::Key& key, AttentionGraph& tensors) {
  const AttentionShape& shape = key.shape;
  tensors.q = Packed(graph, shape);
  tensors.k = PackedTransposed(graph, shape);
  tensors.v = PackedTransposed(graph, shape);
  tensors.out = Output(graph, shape);
  tensors.dout = Output(graph, shape);
  tensors.lse = Rows(graph, shape);
  tensors.row_dot = Rows(graph, shape);
  tensors.dq = Packed(graph, shape);
  tensors.dk = Packed(graph, shape);
  tensors.dv = Packed(graph, shape);
  if (!key.deterministic) {
    tensors.dq_sum = Dense(graph, {shape.batch, shape.heads, shape.positions, shape.width});
  }
  if (key.pass == AttentionPass::kBackward) return;
  tensors.entropy = Rows(graph, shape);
  tensors.entropy_gradient = key.pass == AttentionPass::kBackwardRowEntropy
                                 ? Rows(graph, shape)
                                 : Dense(graph, {1, shape.heads, 1, 1});
}

void BuildBackward(Graph& graph, const CudnnAttention::Key& key, AttentionGraph& tensors) {
  DeclareBackward(graph, key, tensors);
  BuildRowDot(graph, tensors);
  const Tensor scale = Scale(graph, key.shape);
  const Tensor scores =
      graph.Pointwise(CUDNN_POINTWISE_MUL, graph.Matmul(tensors.q, tensors.k), scale);
  const Tensor log_a = graph.Pointwise(CUDNN_POINTWISE_SUB, scores, tensors.lse);
  const Tensor a = graph.Pointwise(CUDNN_POINTWISE_EXP, CausalMask(graph, log_a), kF32);
  graph.MatmulInto(graph.Transpose(a, kBf16), tensors.dout, tensors.dv);
  const Tensor ds = BuildScoreGradient(graph, tensors, log_a, a, scale);
  graph.MatmulInto(graph.Transpose(ds, kBf16), tensors.q, tensors.dk);
  const Tensor keys = graph.Transpose(tensors.k, kBf16);
  if (key.deterministic) {
    // The engine stores dS, and makes dq of it in a product of its own.
    graph.MatmulInto(ds, keys, tensors.dq);
  } else {
    graph.MatmulInto(ds, keys, tensors.dq_sum);
    graph.PointwiseInto(CUDNN_POINTWISE_IDENTITY, {tensors.dq_sum}, tensors.dq);
  }
}

}  // namespace

absl::StatusOr<AttentionGraph> BuildAttentionGraph(const CudnnAttention::Key& key) {
  auto graph = std::make_shared<Graph>();
  AttentionGraph tensors;
  if (key.pass == AttentionPass::kForward) {
    BuildForward(*graph, key.shape, tensors);
  } else {
    BuildBackward(*graph, key, tensors);
  }
  RETURN_IF_ERROR(graph->Finalize());
  tensors.graph = std::move(graph);
  return tensors;
}

}  // namespace entrain

#endif  // ENTRAIN_CUDNN
