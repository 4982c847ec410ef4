// Causal softmax attention that knows its entropy, forward and backward, at O(T) memory: no T×T matrix is ever stored.
//
//   s_ij = q_i·k_j / (t_i √D) for j ≤ i,  a = softmax_j(s),  out_i = Σ_j a_ij v_j,  entropy_i = −Σ_j a_ij log a_ij (nats)
//
// Source: "Entropy-Guided Attention for Private LLMs" (arXiv 2501.03489) for t and the entropy; the online softmax with
// a third running sum W = −Σ e·x for the entropy is this project's (DESIGN.md, Attention).
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_H_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_H_

#include <cstdint>
#include <limits>

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// The widest heads that attention on the device takes.
constexpr int64_t MostHeadWidth(DeviceKind device) {
  return device == DeviceKind::kCpu ? std::numeric_limits<int64_t>::max() : 256;
}

// Below it scores, and what a masked one stands for, leave the range of fp32.
inline constexpr double kLeastTemperature = 1e-6;

// qkv f32 or bf16 [B, T, 3, H, D] dense (the columns of c_attn: q, k, v, each head after head).
// temperature f32: empty (t = 1), [H], or [H, T'] with T' ≥ T (one for each head and query position); at least kLeastTemperature.
// out: dtype of qkv, [B, T, H, D]. lse f32 [B, H, T]: log Σ_j exp(s_ij). entropy f32 [B, H, T] ≥ 0, exactly 0 in row 0.
// lse_low f32 [B, H, T] or empty: what rounding lse to f32 left out. Without it the backward's probabilities are off by a
// factor of 1 ± 6e-8·|lse|, which sums with cancellation (scales, temperatures) magnify.
// Arithmetic in fp32; a (b, h) pair is one task of one thread, so results do not depend on the number of threads. Sums over
// keys run in blocks of 64, block after block. A NaN operand gives NaN in every row that sees it (one in v also in up to
// three rows of out before it). Scratch, O(T·D) a thread, is kept in the context.
// On CUDA, bf16 heads of width 32, 64, 80, 96 or 128 at multiples of 16 bytes run on tensor cores, with probabilities and score
// gradients rounded to bf16 for the products they enter, but not for entropies; a NaN in v reaches up to 127 rows of out before
// it. Everything else runs in plain fp32, for widths up to MostHeadWidth. No result depends on the number of multiprocessors.
struct AttentionForwardArgs {
  TensorView qkv;
  TensorView temperature;
  TensorView out;
  TensorView lse;
  TensorView lse_low;
  TensorView entropy;
};
void AttentionForward(Context& context, const AttentionForwardArgs& args);

// entropy_gradient f32 [B, H, T]: ∂L/∂entropy of each row, or [H]: the same for all rows of a head, or empty for none (then no
// work is spent on it).
// dqkv: dtype of qkv, same shape, overwritten; may not alias qkv.
// lse, lse_low, entropy: the forward's.
// dtemperature f32, shape of temperature, or empty with it: overwritten, or added to when `accumulate`; summed over B in
// order, then over T for [H], in fp64; columns beyond T of [H, T'] are left alone (overwritten with 0 without
// `accumulate`). Made of Σ_j ds_ij·(log a_ij + H_i), not of q·dq: equal on paper, free of cancellation.
// Row 0 of a sequence sees one key: it adds nothing to dq, dk and dtemperature, exactly.
// On CUDA another engine may do it, where one was chosen (attention_engine.h): then sums come in its order, lse_low is not
// read, and row 0 adds rounding errors.
struct AttentionBackwardArgs {
  TensorView qkv;
  TensorView temperature;
  TensorView out;
  TensorView dout;
  TensorView lse;
  TensorView lse_low;
  TensorView entropy;
  TensorView entropy_gradient;
  TensorView dqkv;
  TensorView dtemperature;
  bool accumulate = false;
};
void AttentionBackward(Context& context, const AttentionBackwardArgs& args);

// One new position against a cache, for sampling: q [H, D], keys and values [capacity, H, D] of which the first `length`
// positions (the new one included) are valid, all of one dtype; temperature as above, read at position length − 1; out
// [H, D] of the same dtype; entropy f32 [H].
struct AttentionDecodeArgs {
  TensorView q;
  TensorView keys;
  TensorView values;
  TensorView temperature;
  TensorView out;
  TensorView entropy;
  int64_t length = 0;
};
void AttentionDecode(Context& context, const AttentionDecodeArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_H_
