// Attention on CUDA: entry points, and the choice of a path.
#include <algorithm>
#include <initializer_list>

#include "runtime/kernels/attention_cuda.h"

namespace entrain::cuda {
namespace attention {
namespace {

// Keys and values of a group of pairs stay in the L2 cache (40 MB on an A100, 50 MB on an H100) beside what else passes
// through.
constexpr int64_t kGroupBytes = 16 << 20;

}  // namespace

TileOrder::TileOrder(const Shape& shape, int tile_rows)
    : tiles((shape.length + tile_rows - 1) / tile_rows), pairs(shape.pairs()) {
  const int64_t pair_bytes = int64_t{2} * shape.length * shape.width * SizeOf(DType::kBf16);
  group = static_cast<int>(std::clamp<int64_t>(kGroupBytes / pair_bytes, 1, pairs));
}

bool FitsTensorCores(int width, std::initializer_list<TensorView> views) {
  constexpr int kWidths[] = {32, 64, 80, 96, 128};
  constexpr uintptr_t kAlignment = 16;
  return std::find(std::begin(kWidths), std::end(kWidths), width) != std::end(kWidths) &&
         std::all_of(views.begin(), views.end(), [](const TensorView& view) {
           return view.dtype() == DType::kBf16 &&
                  reinterpret_cast<uintptr_t>(view.raw()) % kAlignment == 0;
         });
}

bool FitsWarpgroups([[maybe_unused]] const CudaDevice& device,
                    [[maybe_unused]] const Shape& shape) {
#ifdef ENTRAIN_SM_90A
  return device.capability == 90 && shape.width == 64;
#else
  return false;  // not compiled for it
#endif
}

}  // namespace attention

void AttentionForward(Context& context, const AttentionForwardArgs& args) {
  const attention::Shape shape(args.qkv);
  if (attention::FitsShortForward(context.cuda(), args)) {
    attention::ShortForward(context, args);
  } else if (attention::FitsTensorCores(shape.width, {args.qkv, args.out})) {
    if (attention::FitsWarpgroups(context.cuda(), shape)) {
      attention::WarpgroupForward(context, args);
    } else {
      attention::TensorForward(context, args);
    }
  } else {
    attention::PlainForward(context, args);
  }
}

void AttentionBackward(Context& context, const AttentionBackwardArgs& args) {
  if (BackwardByCudnn(context, args)) return;
  const attention::Shape shape(args.qkv);
  attention::RowTerms rows(shape);
  Buffer& memory = context.Cache<attention::Scratch>().rows;
  if (memory.bytes() < rows.bytes()) memory = Buffer(DeviceKind::kCuda, rows.bytes());
  rows.values = static_cast<float*>(memory.data());
  if (attention::FitsShortBackward(context.cuda(), args)) {
    attention::ShortBackward(context, args, rows);
  } else if (attention::FitsTensorCores(shape.width, {args.qkv, args.dout, args.dqkv})) {
    attention::FillRowTerms(context, args, /*centred_offsets=*/true, rows);
    if (attention::FitsWarpgroups(context.cuda(), shape)) {
      attention::WarpgroupBackward(context, args, rows);
    } else {
      attention::TensorBackward(context, args, rows);
    }
  } else {
    attention::FillRowTerms(context, args, /*centred_offsets=*/false, rows);
    attention::PlainBackward(context, args, rows);
  }
  if (args.dtemperature) attention::ReduceTemperatureGradient(context, args, rows);
}

}  // namespace entrain::cuda
