// EntropyStatistics: moments of row entropies for each layer and head over all sequences of a step.
#ifndef ENTRAIN_MODEL_ENTROPY_STATISTICS_H_
#define ENTRAIN_MODEL_ENTROPY_STATISTICS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "runtime/device/context.h"
#include "runtime/kernels/entropy_moments.h"
#include "runtime/tensor/arena.h"

namespace entrain {

// M = (log T!)/T: what a causal head's mean entropy can reach at most; the buckets' unit.
double MaxCausalMeanEntropy(int64_t positions);

HeadMoments AllocateMoments(Arena& arena, int64_t layers, int64_t heads);
void CopyMoments(Context& context, const HeadMoments& from, const HeadMoments& to);

// One value a head, [L][H].
using HeadTable = std::vector<std::vector<double>>;

// Mean over each layer's heads, [L].
std::vector<double> LayerMeans(const HeadTable& table);

// Shares of heads whose mean entropy lies in [0, M/4), [M/4, M/2), [M/2, 3M/4), [3M/4, M]. The last is entropic overload;
// near zero in deep layers is collapse (EGA, figures 2 and 3). A NaN, and every head when M = 0, is in the first.
std::array<double, 4> BucketShares(const HeadTable& mean_entropy, int64_t positions);

class EntropyStatistics {
 public:
  EntropyStatistics() = default;
  EntropyStatistics(int64_t layers, int64_t heads) : layers_(layers), heads_(heads) { Clear(); }

  void Clear();
  // What ops have left of `rows` rows of each head. The host waits for them.
  static EntropyStatistics Read(Context& context, const HeadMoments& moments, int64_t rows);
  // Adds another set's rows. Adding in a fixed order gives the same bits again.
  void Merge(const EntropyStatistics& other);

  // As flat vectors, so that sets can be reduced over ranks: sums f64 [1 + 2·L·H] (rows, then Σ H and Σ H² of each head) by
  // addition; extremes f32 [2·L·H] (−min and max of each head) by maximum.
  std::vector<double> Sums() const;
  std::vector<float> Extremes() const;
  void Set(const std::vector<double>& sums, const std::vector<float>& extremes);

  int64_t layers() const { return layers_; }
  int64_t heads() const { return heads_; }
  int64_t rows() const { return rows_; }  // of each head
  double Mean(int64_t layer, int64_t head) const { return At(layer, head).sum / Count(); }
  double StandardDeviation(int64_t layer, int64_t head) const;
  HeadTable Means() const;
  float Min(int64_t layer, int64_t head) const { return At(layer, head).min; }
  float Max(int64_t layer, int64_t head) const { return At(layer, head).max; }

 private:
  struct Moments {
    double sum;
    double sum_of_squares;
    float min;
    float max;
  };
  const Moments& At(int64_t layer, int64_t head) const {
    return moments_[static_cast<size_t>(layer * heads_ + head)];
  }
  double Count() const { return static_cast<double>(rows_ > 0 ? rows_ : 1); }

  int64_t layers_ = 0;
  int64_t heads_ = 0;
  int64_t rows_ = 0;
  std::vector<Moments> moments_;  // [L, H]
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_ENTROPY_STATISTICS_H_
