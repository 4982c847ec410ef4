// Cross-entropy over a vocabulary that is cut over tp: maxima and sums of exponentials are reduced, logits never gathered.
#ifndef ENTRAIN_PARALLEL_VOCAB_CROSS_ENTROPY_H_
#define ENTRAIN_PARALLEL_VOCAB_CROSS_ENTROPY_H_

#include "parallel/tensor_parallel.h"
#include "runtime/kernels/cross_entropy.h"
#include "runtime/tensor/arena.h"

namespace entrain {

class VocabCrossEntropy {
 public:
  VocabCrossEntropy() = default;
  VocabCrossEntropy(const TensorParallel& tp, VocabRange vocab) : tp_(tp), vocab_(vocab) {}

  // A few numbers a row.
  struct Saved {
    TensorView local_max;   // f32 [R]
    TensorView max;         // f32 [R]
    TensorView normalizer;  // f64 [2, R]: Σ exp(logit − max), then the target's logit
  };
  static Saved AllocateSaved(Arena& arena, int64_t rows);

  // logits f32 [R, Vp], this rank's columns; targets i32 [R]; loss f32 [R], the same on every rank. dlogits: empty, or laid
  // over the logits as CrossEntropy says. R at most the rows of `saved`.
  struct Args {
    TensorView logits;
    TensorView targets;
    TensorView loss;
    TensorView dlogits;
    float scale = 1.0F;
  };
  void Run(Context& context, const Args& args, const Saved& saved) const;

 private:
  TensorParallel tp_;
  VocabRange vocab_;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_VOCAB_CROSS_ENTROPY_H_
