#include "runtime/kernels/embedding.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void EmbeddingForward(Context& context, const EmbeddingForwardArgs& args))
ENTRAIN_BACKENDS(void EmbeddingBackward(Context& context, const EmbeddingBackwardArgs& args))
namespace {

void CheckTokens(const TensorView& tokens) {
  CheckDType("embedding tokens", tokens, DType::kI32);
  CheckDims("embedding tokens", tokens, {tokens.dim(0), tokens.dim(1)});
  CheckDense("embedding tokens", tokens);
}

}  // namespace

void EmbeddingForward(Context& context, const EmbeddingForwardArgs& args) {
  const int64_t width = args.wte.dim(-1);
  CheckTokens(args.tokens);
  CheckFloat("embedding wte", args.wte, {args.wte.dim(0), width});
  CheckF32("embedding out", args.out, {args.tokens.size(), width});
  CHECK_GE(args.first_position, 0);
  if (args.wpe) {
    CheckFloat("embedding wpe", args.wpe, {args.wpe.dim(0), width});
    CheckDType("embedding wpe", args.wpe, args.wte.dtype());
    CHECK_GE(args.wpe.dim(0), args.first_position + args.tokens.dim(1))
        << "embedding: positions of wpe";
  }
  ENTRAIN_DISPATCH(EmbeddingForward, context, args);
}

void EmbeddingBackward(Context& context, const EmbeddingBackwardArgs& args) {
  const int64_t width = args.dwte.dim(-1);
  CheckTokens(args.tokens);
  CheckF32("embedding dout", args.dout, {args.tokens.size(), width});
  CheckF32("embedding dwte", args.dwte, {args.dwte.dim(0), width});
  if (args.dwpe) {
    CheckF32("embedding dwpe", args.dwpe, {args.dwpe.dim(0), width});
    CHECK_GE(args.dwpe.dim(0), args.tokens.dim(1)) << "embedding: positions of dwpe";
  }
  ENTRAIN_DISPATCH(EmbeddingBackward, context, args);
}

}  // namespace entrain
