// Attention as one writes it down: float64, every T×T matrix materialised, no blocks. What the
// fused kernel is held against; its own backward is held against finite differences.
#ifndef ENTRAIN_TESTS_SUPPORT_ATTENTION_REFERENCE_H_
#define ENTRAIN_TESTS_SUPPORT_ATTENTION_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace entrain {

// One (sequence, head) pair. q, k, v, out and their gradients are [T, D], rows of scores [T].
struct AttentionReference {
  using Vector = std::vector<double>;

  int64_t length;
  int64_t width;
  Vector q, k, v;
  Vector temperature;  // [T]

  Vector scores, probs;  // [T, T], zero above the diagonal
  Vector out, lse, entropy;
  Vector dq, dk, dv, dtemperature;

  double Dot(const Vector& a, int64_t i, const Vector& b, int64_t j) const {
    double sum = 0.0;
    for (int64_t d = 0; d < width; ++d) sum += a[i * width + d] * b[j * width + d];
    return sum;
  }

  void Forward() {
    scores.assign(length * length, 0.0);
    probs.assign(length * length, 0.0);
    out.assign(length * width, 0.0);
    lse.assign(length, 0.0);
    entropy.assign(length, 0.0);
    for (int64_t i = 0; i < length; ++i) ForwardRow(i);
  }

  void ForwardRow(int64_t i) {
    double* s = &scores[i * length];
    for (int64_t j = 0; j <= i; ++j) {
      s[j] = Dot(q, i, k, j) / (temperature[i] * std::sqrt(static_cast<double>(width)));
    }
    const double maximum = *std::max_element(s, s + i + 1);
    double sum = 0.0;
    for (int64_t j = 0; j <= i; ++j) sum += std::exp(s[j] - maximum);
    lse[i] = maximum + std::log(sum);
    for (int64_t j = 0; j <= i; ++j) {
      const double a = std::exp(s[j] - maximum) / sum;
      probs[i * length + j] = a;
      // −Σ a log a with log a = (s − max) − log Σ: free of cancellation in float64 for what is
      // tested here.
      entropy[i] -= a * ((s[j] - maximum) - std::log(sum));
      for (int64_t d = 0; d < width; ++d) out[i * width + d] += a * v[j * width + d];
    }
  }

  // For the loss Σ dout·out + Σ entropy_gradient·entropy. After Forward().
  void Backward(const Vector& dout, const Vector& entropy_gradient) {
    dq.assign(length * width, 0.0);
    dk.assign(length * width, 0.0);
    dv.assign(length * width, 0.0);
    dtemperature.assign(length, 0.0);
    for (int64_t i = 0; i < length; ++i) BackwardRow(i, dout, entropy_gradient[i]);
  }

  void BackwardRow(int64_t i, const Vector& dout, double entropy_gradient) {
    const double* a = &probs[i * length];
    Vector dp(i + 1);
    double dot = 0.0;  // Σ a·dP
    for (int64_t j = 0; j <= i; ++j) {
      dp[j] = Dot(dout, i, v, j);
      dot += a[j] * dp[j];
    }
    for (int64_t j = 0; j <= i; ++j) {
      const double log_a = scores[i * length + j] - lse[i];
      const double ds = a[j] * (dp[j] - dot) - entropy_gradient * a[j] * (log_a + entropy[i]);
      const double factor = ds / (temperature[i] * std::sqrt(static_cast<double>(width)));
      dtemperature[i] -= ds * scores[i * length + j] / temperature[i];
      for (int64_t d = 0; d < width; ++d) {
        dq[i * width + d] += factor * k[j * width + d];
        dk[j * width + d] += factor * q[i * width + d];
        dv[j * width + d] += a[j] * dout[i * width + d];
      }
    }
  }
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_ATTENTION_REFERENCE_H_
