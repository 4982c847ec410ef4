// Cosines and sines of rotary position embedding, computed on the host for every backend.
#ifndef ENTRAIN_RUNTIME_KERNELS_ROTATION_TABLES_H_
#define ENTRAIN_RUNTIME_KERNELS_ROTATION_TABLES_H_

#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

namespace entrain {

struct Rotation {
  float cosine;
  float sine;
};

// Rotations of each position's pairs, grown as positions are asked for; one table for each number of rotary dims.
class RotationTables {
 public:
  // Rotations of positions [0, positions) at least, pairs of a position side by side.
  const std::vector<Rotation>& Find(int64_t rotary_dims, int64_t positions) {
    const int64_t pairs = rotary_dims / 2;
    std::vector<Rotation>& table = tables_[rotary_dims];
    for (auto p = static_cast<int64_t>(table.size()) / pairs; p < positions; ++p) {
      for (int64_t m = 0; m < pairs; ++m) table.push_back(Of(rotary_dims, p, m));
    }
    return table;
  }

 private:
  static Rotation Of(int64_t rotary_dims, int64_t position, int64_t pair) {
    const double exponent = -2.0 * static_cast<double>(pair) / static_cast<double>(rotary_dims);
    const double angle = static_cast<double>(position) * std::pow(10000.0, exponent);
    return {static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))};
  }

  std::map<int64_t, std::vector<Rotation>> tables_;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ROTATION_TABLES_H_
