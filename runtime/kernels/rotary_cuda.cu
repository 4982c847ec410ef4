#include <algorithm>
#include <map>
#include <vector>

#include "runtime/device/buffer.h"
#include "runtime/device/cuda_device.h"
#include "runtime/device/device_memory.h"
#include "runtime/kernels/cuda_elements.cuh"
#include "runtime/kernels/rotary.h"
#include "runtime/kernels/rotation_tables.h"

namespace entrain::cuda {
namespace {

// The tables in the device's memory.
class DeviceTables {
 public:
  const Rotation* Find(Context& context, int64_t rotary_dims, int64_t positions) {
    Table& table = tables_[rotary_dims];
    if (positions > table.positions) {
      // By doubling, for decoding asks for one position more each time.
      table.positions = std::max({positions, 2 * table.positions, kLeastPositions});
      const std::vector<Rotation> rotations = RotationTables().Find(rotary_dims, table.positions);
      const auto bytes = static_cast<int64_t>(rotations.size() * sizeof(Rotation));
      table.memory = Buffer(DeviceKind::kCuda, bytes);
      CopyToDevice(context, rotations.data(), table.memory.data(), bytes);
    }
    return static_cast<const Rotation*>(table.memory.data());
  }

 private:
  static constexpr int64_t kLeastPositions = 256;
  struct Table {
    Buffer memory;
    int64_t positions = 0;
  };
  std::map<int64_t, Table> tables_;
};

constexpr int kMaxThreads = 256;

struct Shape {
  int64_t positions;
  int64_t token_stride;
  int heads;  // of q and k
  int head_width;
  int pairs;
  bool inverse;
};

// n pairs of a head, the first of which are at `first` and `second`.
template <int n, typename T>
__device__ __forceinline__ void RotatePairs(T* first, T* second, const Rotation* rotations,
                                            bool inverse) {
  float a[n], b[n], turns[2][n];  // cosine, sine, cosine, …
  LoadVector(first, a);
  LoadVector(second, b);
  const auto* table = reinterpret_cast<const float*>(rotations);
#pragma unroll
  for (int half = 0; half < 2; ++half) LoadVector(table + half * n, turns[half]);
#pragma unroll
  for (int j = 0; j < n; ++j) {
    const float cosine = turns[2 * j / n][2 * j % n];
    const float sine = inverse ? -turns[(2 * j + 1) / n][(2 * j + 1) % n]
                               : turns[(2 * j + 1) / n][(2 * j + 1) % n];
    const float turned = a[j] * cosine - b[j] * sine;
    b[j] = b[j] * cosine + a[j] * sine;
    a[j] = turned;
  }
  StoreVector(first, a);
  StoreVector(second, b);
}

// A block a token: q's heads, then k's; v's follow and stay. `rotations`: of the first position.
template <int n, typename T>
__global__ void __launch_bounds__(kMaxThreads)
    RotaryKernel(T* qkv, const Rotation* rotations, Shape shape) {
  const int64_t token = blockIdx.x;
  rotations += token % shape.positions * shape.pairs;
  T* q_and_k = qkv + token * shape.token_stride;
  const int groups = shape.pairs / n;
  for (auto i = static_cast<int>(threadIdx.x); i < shape.heads * groups;
       i += static_cast<int>(blockDim.x)) {
    const int pair = i % groups * n;
    T* first = q_and_k + i / groups * shape.head_width + pair;
    RotatePairs<n>(first, first + shape.pairs, rotations + pair, shape.inverse);
  }
}

}  // namespace

void Rotary(Context& context, const RotaryArgs& args) {
  const TensorView& qkv = args.qkv;
  if (args.rotary_dims == 0 || qkv.size() == 0) return;
  const int64_t positions = qkv.dim(1), heads = qkv.dim(3), width = qkv.dim(4);
  const int64_t pairs = args.rotary_dims / 2;
  const Rotation* table = context.Cache<DeviceTables>().Find(context, args.rotary_dims,
                                                             args.first_position + positions);
  const Shape shape = {.positions = positions,
                       .token_stride = 3 * heads * width,
                       .heads = static_cast<int>(2 * heads),
                       .head_width = static_cast<int>(width),
                       .pairs = static_cast<int>(pairs),
                       .inverse = args.inverse};
  DispatchFloat(qkv.dtype(), [&]<typename T>(T) {
    DispatchVector(FoursFit(qkv) && pairs % 4 == 0, [&]<int n>(std::integral_constant<int, n>) {
      const int64_t items = 2 * heads * (pairs / n);
      const auto threads =
          static_cast<unsigned>(std::min<int64_t>((items + 31) / 32 * 32, kMaxThreads));
      Launch(RotaryKernel<n, T>, static_cast<unsigned>(qkv.dim(0) * positions), threads, 0,
             context.cuda().stream, qkv.data<T>(), table + args.first_position * pairs, shape);
    });
  });
}

}  // namespace entrain::cuda
