// Attention as graphs of cuDNN operations, in the shape that its fused engines recognise: each of them becomes one
// flash-style kernel, with the T×T tensors in registers only.
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_GRAPH_CUDA_H_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_GRAPH_CUDA_H_

#include <memory>

#include "runtime/base/status.h"
#include "runtime/kernels/attention_cudnn_cuda.h"
#include "runtime/kernels/cudnn_graph_cuda.h"

namespace entrain {

// The real tensors of a graph; those that a pass lacks have the id 0.
struct AttentionGraph {
  std::shared_ptr<const cudnn::Graph> graph;
  cudnn::Tensor q, k, v, out, lse;
  cudnn::Tensor dout, entropy, entropy_gradient, dq, dk, dv;
  // What a backward keeps in its workspace: D_i = Σ_d dout·out [B, H, T] and, not deterministic, dq in fp32 [B, H, T, D].
  cudnn::Tensor row_dot, dq_sum;
};

absl::StatusOr<AttentionGraph> BuildAttentionGraph(const CudnnAttention::Key& key);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_GRAPH_CUDA_H_
