// TensorView: a typed shape over memory that something else owns.
#ifndef ENTRAIN_RUNTIME_TENSOR_TENSOR_VIEW_H_
#define ENTRAIN_RUNTIME_TENSOR_TENSOR_VIEW_H_

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "runtime/base/check.h"
#include "runtime/tensor/dtype.h"

namespace entrain {

// Row-major, up to five dims. Dense, but for `row_stride`: the distance in elements between rows of the last dim
// (a logits matrix with a padded vocabulary, a bf16 matrix laid over an fp32 one). A default view is empty: `!view`.
class TensorView {
 public:
  static constexpr int kMaxDims = 5;

  TensorView() = default;
  TensorView(void* data, DType dtype, std::initializer_list<int64_t> dims, int64_t row_stride = 0)
      : data_(data), dtype_(dtype), num_dims_(static_cast<int>(dims.size())) {
    CHECK_LE(num_dims_, kMaxDims);
    int i = 0;
    for (const int64_t dim : dims) dims_[i++] = dim;
    row_stride_ = row_stride != 0 ? row_stride : dims_[num_dims_ - 1];
  }

  explicit operator bool() const { return data_ != nullptr; }
  DType dtype() const { return dtype_; }
  int num_dims() const { return num_dims_; }
  int64_t dim(int i) const { return dims_[i < 0 ? i + num_dims_ : i]; }
  int64_t row_stride() const { return row_stride_; }
  bool dense() const { return row_stride_ == dims_[num_dims_ - 1]; }
  // Number of elements, padding of rows not counted.
  int64_t size() const {
    int64_t product = 1;
    for (int i = 0; i < num_dims_; ++i) product *= dims_[i];
    return product;
  }
  // Number of rows: the product of all dims but the last.
  int64_t rows() const { return dims_[num_dims_ - 1] == 0 ? 0 : size() / dims_[num_dims_ - 1]; }
  int64_t bytes() const { return rows() * row_stride_ * SizeOf(dtype_); }

  void* raw() const { return data_; }
  template <typename T>
  T* data() const {
    CHECK(dtype_ == DTypeOf<T>::value) << "tensor holds " << kDTypeNames.Name(dtype_);
    return static_cast<T*>(data_);
  }
  template <typename T>
  T* row(int64_t i) const {
    return data<T>() + i * row_stride_;
  }

  // The same shape and strides over other memory.
  TensorView Over(void* data) const {
    TensorView view = *this;
    view.data_ = data;
    return view;
  }
  // Rows [begin, begin + count) of a view seen as [rows, last dim].
  TensorView Rows(int64_t begin, int64_t count) const {
    auto* start = static_cast<char*>(data_) + begin * row_stride_ * SizeOf(dtype_);
    return {data_ == nullptr ? nullptr : start, dtype_, {count, dim(-1)}, row_stride_};
  }
  // Elements [begin, begin + count), as a vector; dense views only.
  TensorView Slice(int64_t begin, int64_t count) const {
    CHECK(dense() && 0 <= begin && count >= 0 && begin + count <= size());
    return {data_ == nullptr ? nullptr : static_cast<char*>(data_) + begin * SizeOf(dtype_),
            dtype_,
            {count}};
  }
  // The same memory with other dims of equal size; dense views only.
  TensorView Reshape(std::initializer_list<int64_t> dims) const {
    CHECK(dense());
    TensorView view(data_, dtype_, dims);
    CHECK_EQ(view.size(), size());
    return view;
  }

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  int num_dims_ = 1;
  std::array<int64_t, kMaxDims> dims_ = {0, 1, 1, 1, 1};
  int64_t row_stride_ = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_TENSOR_TENSOR_VIEW_H_
