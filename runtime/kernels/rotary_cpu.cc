#include <cmath>
#include <map>
#include <vector>

#include "runtime/device/parallel_for.h"
#include "runtime/kernels/rotary.h"

namespace entrain::cpu {
namespace {

struct Rotation {
  float cosine;
  float sine;
};

// Rotations of each position's pairs, grown as positions are asked for; one table for each number of rotary dims.
class RotationTables {
 public:
  // Rotations of positions [0, positions), pairs of a position side by side.
  const Rotation* Find(int64_t rotary_dims, int64_t positions) {
    const int64_t pairs = rotary_dims / 2;
    std::vector<Rotation>& table = tables_[rotary_dims];
    for (auto p = static_cast<int64_t>(table.size()) / pairs; p < positions; ++p) {
      for (int64_t m = 0; m < pairs; ++m) table.push_back(Of(rotary_dims, p, m));
    }
    return table.data();
  }

 private:
  static Rotation Of(int64_t rotary_dims, int64_t position, int64_t pair) {
    const double exponent = -2.0 * static_cast<double>(pair) / static_cast<double>(rotary_dims);
    const double angle = static_cast<double>(position) * std::pow(10000.0, exponent);
    return {static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))};
  }

  std::map<int64_t, std::vector<Rotation>> tables_;
};

template <typename T>
void RotateHead(T* head, const Rotation* rotations, int64_t pairs, bool inverse) {
  for (int64_t m = 0; m < pairs; ++m) {
    const float cosine = rotations[m].cosine;
    const float sine = inverse ? -rotations[m].sine : rotations[m].sine;
    const auto first = static_cast<float>(head[m]);
    const auto second = static_cast<float>(head[m + pairs]);
    head[m] = T(first * cosine - second * sine);
    head[m + pairs] = T(second * cosine + first * sine);
  }
}

}  // namespace

void Rotary(Context& context, const RotaryArgs& args) {
  if (args.rotary_dims == 0) return;
  const int64_t positions = args.qkv.dim(1);
  const int64_t heads = args.qkv.dim(3);
  const int64_t pairs = args.rotary_dims / 2;
  const Rotation* table =
      context.Cache<RotationTables>().Find(args.rotary_dims, args.first_position + positions);
  DispatchFloat(args.qkv.dtype(), [&]<typename T>(T) {
    ParallelFor(context, args.qkv.dim(0) * positions, [&](int64_t token) {
      const Rotation* rotations = table + (args.first_position + token % positions) * pairs;
      // q's heads, then k's; v's follow and stay.
      for (int64_t head = 0; head < 2 * heads; ++head) {
        RotateHead(args.qkv.row<T>(token * 3 * heads + head), rotations, pairs, args.inverse);
      }
    });
  });
}

}  // namespace entrain::cpu
