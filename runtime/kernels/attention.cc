#include "runtime/kernels/attention.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void AttentionForward(Context& context, const AttentionForwardArgs& args))
ENTRAIN_BACKENDS(void AttentionBackward(Context& context, const AttentionBackwardArgs& args))
ENTRAIN_BACKENDS(void AttentionDecode(Context& context, const AttentionDecodeArgs& args))
namespace {

// [B, T, 3, H, D], of any size but none.
void CheckQkv(const TensorView& qkv) {
  CHECK(qkv.num_dims() == 5 && qkv.dim(2) == 3)
      << "attention qkv is [B, T, 3, H, D]: " << Describe(qkv);
  CheckFloat("attention qkv", qkv, {qkv.dim(0), qkv.dim(1), 3, qkv.dim(3), qkv.dim(4)});
  CHECK_GT(qkv.size(), 0) << "attention qkv";
}

// [B, T, H, D] of qkv's dtype.
void CheckOut(const char* name, const TensorView& out, const TensorView& qkv) {
  CheckFloat(name, out, {qkv.dim(0), qkv.dim(1), qkv.dim(3), qkv.dim(4)});
  CheckDType(name, out, qkv.dtype());
}

// A number for each row of scores: f32 [B, H, T].
void CheckRows(const char* name, const TensorView& rows, const TensorView& qkv) {
  CheckF32(name, rows, {qkv.dim(0), qkv.dim(3), qkv.dim(1)});
}

// Empty, [H], or [H, T'] with T' ≥ `length`.
void CheckTemperature(const TensorView& temperature, int64_t heads, int64_t length) {
  if (!temperature) return;
  if (temperature.num_dims() == 1) {
    CheckF32("attention temperature", temperature, {heads});
    return;
  }
  CheckF32("attention temperature", temperature, {heads, temperature.dim(-1)});
  CHECK_GE(temperature.dim(-1), length) << "attention temperature: " << Describe(temperature);
}

// Empty, [H], or [B, H, T].
void CheckEntropyGradient(const TensorView& gradient, const TensorView& qkv) {
  if (!gradient) return;
  if (gradient.num_dims() == 1) {
    CheckF32("attention entropy_gradient", gradient, {qkv.dim(3)});
  } else {
    CheckRows("attention entropy_gradient", gradient, qkv);
  }
}

void CheckTemperatureGradient(const TensorView& gradient, const TensorView& temperature) {
  CHECK_EQ(static_cast<bool>(gradient), static_cast<bool>(temperature)) << "attention dtemperature";
  if (!gradient) return;
  if (temperature.num_dims() == 1) {
    CheckF32("attention dtemperature", gradient, {temperature.dim(0)});
  } else {
    CheckF32("attention dtemperature", gradient, {temperature.dim(0), temperature.dim(1)});
  }
}

}  // namespace

void AttentionForward(Context& context, const AttentionForwardArgs& args) {
  CheckQkv(args.qkv);
  CheckTemperature(args.temperature, args.qkv.dim(3), args.qkv.dim(1));
  CheckOut("attention out", args.out, args.qkv);
  CheckRows("attention lse", args.lse, args.qkv);
  if (args.lse_low) CheckRows("attention lse_low", args.lse_low, args.qkv);
  CheckRows("attention entropy", args.entropy, args.qkv);
  ENTRAIN_DISPATCH(AttentionForward, context, args);
}

void AttentionBackward(Context& context, const AttentionBackwardArgs& args) {
  CheckQkv(args.qkv);
  CheckTemperature(args.temperature, args.qkv.dim(3), args.qkv.dim(1));
  CheckOut("attention out", args.out, args.qkv);
  CheckOut("attention dout", args.dout, args.qkv);
  CheckRows("attention lse", args.lse, args.qkv);
  if (args.lse_low) CheckRows("attention lse_low", args.lse_low, args.qkv);
  CheckRows("attention entropy", args.entropy, args.qkv);
  CheckEntropyGradient(args.entropy_gradient, args.qkv);
  CheckQkv(args.dqkv);
  CHECK_EQ(args.dqkv.size(), args.qkv.size()) << "attention dqkv: " << Describe(args.dqkv);
  CheckDType("attention dqkv", args.dqkv, args.qkv.dtype());
  CHECK(args.dqkv.raw() != args.qkv.raw()) << "attention dqkv may not alias qkv";
  CheckTemperatureGradient(args.dtemperature, args.temperature);
  ENTRAIN_DISPATCH(AttentionBackward, context, args);
}

void AttentionDecode(Context& context, const AttentionDecodeArgs& args) {
  const int64_t heads = args.q.dim(0);
  const int64_t width = args.q.dim(-1);
  CheckFloat("attention decode q", args.q, {heads, width});
  CHECK_GT(args.q.size(), 0) << "attention decode q";
  for (const TensorView& cache : {args.keys, args.values}) {
    CheckFloat("attention cache", cache, {cache.dim(0), heads, width});
    CheckDType("attention cache", cache, args.q.dtype());
    CHECK_LE(args.length, cache.dim(0)) << "length of the attention cache";
  }
  CHECK_GT(args.length, 0) << "length of the attention cache";
  CheckTemperature(args.temperature, heads, args.length);
  CheckFloat("attention decode out", args.out, {heads, width});
  CheckDType("attention decode out", args.out, args.q.dtype());
  CheckDType("attention decode entropy", args.entropy, DType::kF32);
  CHECK_EQ(args.entropy.size(), heads) << "attention decode entropy: " << Describe(args.entropy);
  ENTRAIN_DISPATCH(AttentionDecode, context, args);
}

}  // namespace entrain
