// Tests of the CUDA backend. The same test runs on the emulated GPU (tests/support/emulated_gpu) and on a real one.
#ifndef ENTRAIN_TESTS_SUPPORT_GPU_TEST_H_
#define ENTRAIN_TESTS_SUPPORT_GPU_TEST_H_

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/base/check.h"
#include "runtime/device/buffer.h"
#include "runtime/device/context.h"
#include "runtime/device/device_memory.h"
#include "runtime/tensor/tensor_view.h"

// First in a test: leaves it out, with the reason, where there is no GPU.
#define ENTRAIN_REQUIRE_GPU()                                                    \
  if (const absl::Status& no_gpu = ::entrain::GpuOrNot().status(); !no_gpu.ok()) \
  GTEST_SKIP() << no_gpu.message()

namespace entrain {

// One context for the whole program.
inline const absl::StatusOr<std::unique_ptr<Context>>& GpuOrNot() {
  static const auto* context =
      new absl::StatusOr<std::unique_ptr<Context>>(Context::CreateCuda(0, 2));
  return *context;
}

inline Context& Gpu() {
  CHECK(GpuOrNot().ok()) << "ENTRAIN_REQUIRE_GPU() comes first";
  return **GpuOrNot();
}

inline Context& Cpu() {
  static Context* context = Context::CreateCpu(2)->release();
  return *context;
}

// There, shapes must be small.
inline bool OnEmulatedGpu() {
  return GpuOrNot().ok() && Gpu().Description().find("emulated") != std::string::npos;
}

// A tensor in the memory of Gpu(), zero at first; its contents come from and go to the host's vectors of a row's elements after
// another. Padding between rows (row_stride) is NaN, 0xff bytes, and stays so: Get() checks it.
class GpuTensor {
 public:
  GpuTensor(DType dtype, std::initializer_list<int64_t> dims, int64_t row_stride = 0)
      : GpuTensor(TensorView(nullptr, dtype, dims, row_stride)) {}
  GpuTensor(DType dtype, std::initializer_list<int64_t> dims, const std::vector<float>& values)
      : GpuTensor(dtype, dims) {
    Set(values);
  }

  const TensorView& view() const { return view_; }
  operator const TensorView&() const { return view_; }  // NOLINT: as an operand of an op

  // Rounded to bf16 where that is the dtype.
  GpuTensor& Set(const std::vector<float>& values) { return SetAs(values); }
  GpuTensor& SetInts(const std::vector<int32_t>& values) { return SetAs(values); }
  GpuTensor& SetDoubles(const std::vector<double>& values) { return SetAs(values); }
  GpuTensor& Fill(float value) { return Set(std::vector<float>(Size(), value)); }
  std::vector<float> Get() const { return GetAs<float>(); }
  std::vector<int32_t> GetInts() const { return GetAs<int32_t>(); }
  std::vector<double> GetDoubles() const { return GetAs<double>(); }

  // The bytes, padding included: for comparisons to the bit.
  std::vector<uint8_t> Bytes() const {
    std::vector<uint8_t> bytes(static_cast<size_t>(view_.bytes()));
    CopyToHost(Gpu(), view_.raw(), bytes.data(), view_.bytes());
    return bytes;
  }

 private:
  explicit GpuTensor(const TensorView& shape)
      : memory_(DeviceKind::kCuda, shape.bytes()), view_(shape.Over(memory_.data())) {
    FillBytes(Gpu(), view_.raw(), 0xff, view_.bytes());
    SetAs(std::vector<float>(Size(), 0.0F));
  }

  size_t Size() const { return static_cast<size_t>(view_.size()); }

  template <typename Stored, typename T>
  void Write(const std::vector<T>& values, std::vector<uint8_t>& bytes) const {
    for (int64_t i = 0; i < view_.size(); ++i) {
      const auto value = static_cast<Stored>(values[static_cast<size_t>(i)]);
      std::memcpy(bytes.data() + Offset(i), &value, sizeof(value));
    }
  }
  template <typename Stored, typename T>
  void Read(const std::vector<uint8_t>& bytes, std::vector<T>& values) const {
    for (int64_t i = 0; i < view_.size(); ++i) {
      Stored value;
      std::memcpy(&value, bytes.data() + Offset(i), sizeof(value));
      if constexpr (std::is_same_v<Stored, Bf16>) {
        values[static_cast<size_t>(i)] = static_cast<T>(static_cast<float>(value));
      } else {
        values[static_cast<size_t>(i)] = static_cast<T>(value);
      }
    }
  }
  // Bytes before element i, padding not counted in i.
  size_t Offset(int64_t i) const {
    const int64_t width = view_.dim(-1);
    return static_cast<size_t>((i / width * view_.row_stride() + i % width) *
                               SizeOf(view_.dtype()));
  }

  template <typename T>
  GpuTensor& SetAs(const std::vector<T>& values) {
    CHECK_EQ(values.size(), Size());
    std::vector<uint8_t> bytes = Bytes();
    switch (view_.dtype()) {
      case DType::kF32:
        Write<float>(values, bytes);
        break;
      case DType::kBf16:
        Write<Bf16>(values, bytes);
        break;
      case DType::kI32:
        Write<int32_t>(values, bytes);
        break;
      case DType::kF64:
        Write<double>(values, bytes);
        break;
    }
    CopyToDevice(Gpu(), bytes.data(), view_.raw(), view_.bytes());
    return *this;
  }
  template <typename T>
  std::vector<T> GetAs() const {
    const std::vector<uint8_t> bytes = Bytes();
    CheckPadding(bytes);
    std::vector<T> values(Size());
    switch (view_.dtype()) {
      case DType::kF32:
        Read<float>(bytes, values);
        break;
      case DType::kBf16:
        Read<Bf16>(bytes, values);
        break;
      case DType::kI32:
        Read<int32_t>(bytes, values);
        break;
      case DType::kF64:
        Read<double>(bytes, values);
        break;
    }
    return values;
  }
  void CheckPadding(const std::vector<uint8_t>& bytes) const {
    const auto row = static_cast<size_t>(view_.dim(-1) * SizeOf(view_.dtype()));
    const auto stride = static_cast<size_t>(view_.row_stride() * SizeOf(view_.dtype()));
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (i % stride < row || bytes[i] == 0xff) continue;
      ADD_FAILURE() << "padding after row " << i / stride << " was overwritten";
      return;
    }
  }

  Buffer memory_;
  TensorView view_;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_GPU_TEST_H_
