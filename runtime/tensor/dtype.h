// Element types and the bf16 number.
#ifndef ENTRAIN_RUNTIME_TENSOR_DTYPE_H_
#define ENTRAIN_RUNTIME_TENSOR_DTYPE_H_

#include <bit>
#include <cstdint>

#include "runtime/base/enum_table.h"

namespace entrain {

// The upper half of an fp32; conversion rounds to nearest even and keeps NaN a NaN.
struct Bf16 {
  uint16_t bits = 0;

  Bf16() = default;
  explicit Bf16(float value) {
    const auto word = std::bit_cast<uint32_t>(value);
    const bool nan = (word & 0x7fffffffU) > 0x7f800000U;
    const uint32_t rounded = word + 0x7fffU + ((word >> 16) & 1U);
    bits = static_cast<uint16_t>((nan ? (word | 0x400000U) : rounded) >> 16);
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};

enum class DType { kF32, kBf16, kI32, kF64 };
inline constexpr EnumTable<DType, 4> kDTypeNames{
    {{{DType::kF32, "f32"}, {DType::kBf16, "bf16"}, {DType::kI32, "i32"}, {DType::kF64, "f64"}}}};

constexpr int64_t SizeOf(DType dtype) {
  if (dtype == DType::kF64) return 8;
  return dtype == DType::kBf16 ? 2 : 4;
}

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<Bf16> {
  static constexpr DType value = DType::kBf16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};

// Calls function(float{}) or function(Bf16{}): the one place where a run-time dtype becomes a type.
template <typename F>
auto DispatchFloat(DType dtype, F&& function) {
  return dtype == DType::kBf16 ? function(Bf16{}) : function(float{});
}

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_TENSOR_DTYPE_H_
