// Tensors for the tests of kernels: filled with random numbers, read as doubles, compared with float64 references.
#ifndef ENTRAIN_TESTS_SUPPORT_TEST_TENSOR_H_
#define ENTRAIN_TESTS_SUPPORT_TEST_TENSOR_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/base/philox.h"
#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

using Doubles = std::vector<double>;

// Owns its elements; indices count elements row by row, padding between rows left out.
class TestTensor {
 public:
  TestTensor(DType dtype, std::initializer_list<int64_t> dims, int64_t row_stride = 0)
      : shape_(nullptr, dtype, dims, row_stride), bytes_(static_cast<size_t>(shape_.bytes())) {}

  // Standard normal numbers times `scale`, a function of `stream`, rounded to the dtype.
  static TestTensor Normal(DType dtype, std::initializer_list<int64_t> dims, uint64_t stream,
                           double scale = 1.0, int64_t row_stride = 0) {
    TestTensor tensor(dtype, dims, row_stride);
    for (int64_t i = 0; i < tensor.size(); ++i) {
      tensor.Set(i, scale * NormalAt(7, stream, static_cast<uint64_t>(i)));
    }
    return tensor;
  }
  static TestTensor F32(std::initializer_list<int64_t> dims) { return {DType::kF32, dims}; }

  // The view of this object's elements; it stays valid when the object is moved.
  TensorView view() { return shape_.Over(bytes_.data()); }
  int64_t size() const { return shape_.size(); }

  double At(int64_t i) const {
    const std::byte* from = bytes_.data() + Offset(i);
    switch (shape_.dtype()) {
      case DType::kF32:
        return *reinterpret_cast<const float*>(from);
      case DType::kBf16:
        return static_cast<float>(*reinterpret_cast<const Bf16*>(from));
      case DType::kI32:
        return *reinterpret_cast<const int32_t*>(from);
      case DType::kF64:
        return *reinterpret_cast<const double*>(from);
    }
    return 0.0;
  }
  void Set(int64_t i, double value) {
    std::byte* to = bytes_.data() + Offset(i);
    switch (shape_.dtype()) {
      case DType::kF32:
        *reinterpret_cast<float*>(to) = static_cast<float>(value);
        break;
      case DType::kBf16:
        *reinterpret_cast<Bf16*>(to) = Bf16(static_cast<float>(value));
        break;
      case DType::kI32:
        *reinterpret_cast<int32_t*>(to) = static_cast<int32_t>(value);
        break;
      case DType::kF64:
        *reinterpret_cast<double*>(to) = value;
        break;
    }
  }
  void Fill(double value) {
    for (int64_t i = 0; i < size(); ++i) Set(i, value);
  }
  Doubles values() const {
    Doubles values;
    for (int64_t i = 0; i < size(); ++i) values.push_back(At(i));
    return values;
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  size_t Offset(int64_t i) const {
    const int64_t width = shape_.dim(-1);
    return static_cast<size_t>((i / width * shape_.row_stride() + i % width) *
                               SizeOf(shape_.dtype()));
  }
  TensorView shape_;
  std::vector<std::byte> bytes_;
};

// ‖a − b‖/‖b‖, or ‖a‖ for a zero b.
inline double RelativeError(const Doubles& a, const Doubles& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference) / (norm == 0.0 ? 1.0 : std::sqrt(norm));
}

// Relative L2 error that rounding to `dtype` and a sum of some length may cause.
inline double Tolerance(DType dtype) { return dtype == DType::kBf16 ? 4e-3 : 2e-6; }

// ∂function/∂x by central differences.
inline Doubles NumericGradient(const std::function<double(const Doubles&)>& function, Doubles x) {
  Doubles gradient;
  for (double& element : x) {
    const double kept = element;
    const double step = 1e-5 * std::max(1.0, std::abs(kept));
    element = kept + step;
    const double above = function(x);
    element = kept - step;
    gradient.push_back((above - function(x)) / (2.0 * step));
    element = kept;
  }
  return gradient;
}

inline double Dot(const Doubles& a, const Doubles& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

inline std::unique_ptr<Context> CpuContext(int num_threads) {
  return Context::CreateCpu(num_threads).value();
}

// Runs body(context), which returns an op's outputs, on one, two and three threads; expects the same bits from all, and
// returns them.
inline std::vector<TestTensor> OnAnyThreads(
    const std::function<std::vector<TestTensor>(Context&)>& body) {
  std::vector<TestTensor> first = body(*CpuContext(1));
  for (const int num_threads : {2, 3}) {
    const std::vector<TestTensor> other = body(*CpuContext(num_threads));
    for (size_t i = 0; i < first.size(); ++i) {
      EXPECT_EQ(first[i].bytes(), other[i].bytes())
          << "output " << i << " differs on " << num_threads << " threads";
    }
  }
  return first;
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_TEST_TENSOR_H_
