#include "runtime/device/parallel_for.h"
#include "runtime/kernels/rotary.h"
#include "runtime/kernels/rotation_tables.h"

namespace entrain::cpu {
namespace {

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
  const Rotation* table = context.Cache<RotationTables>()
                              .Find(args.rotary_dims, args.first_position + positions)
                              .data();
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
