#ifdef ENTRAIN_CUDNN

#include "runtime/kernels/cudnn_graph_cuda.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/kernels/cudnn_library_cuda.h"

namespace entrain::cudnn {
namespace {

constexpr int64_t kAlignment = 16;  // of real tensors, bytes
constexpr int64_t kNoAxis = -1;
constexpr size_t kMostWords =
    1 << 16;  // of an error, bytes: cuDNN writes more where an engine fails deep inside

Dims Broadcast(const std::vector<Tensor>& operands) {
  Dims dims = {1, 1, 1, 1};
  for (const Tensor& operand : operands) {
    for (size_t i = 0; i < dims.size(); ++i) dims[i] = std::max(dims[i], operand.dims[i]);
  }
  return dims;
}

}  // namespace

std::string LastWords() {
  std::string words(kMostWords, '\0');
  Library().get_last_error_string(words.data(), words.size());
  words.resize(std::strlen(words.c_str()));
  return words;
}

absl::Status ToStatus(cudnnStatus_t status, const std::string& call) {
  if (status == CUDNN_STATUS_SUCCESS) return absl::OkStatus();
  const std::string words = LastWords();
  const std::string message = absl::StrCat(
      "cuDNN: ", call, ": ", Library().get_error_string(status), words.empty() ? "" : ": ", words);
  switch (CUDNN_STATUS_CATEGORY(status)) {
    case CUDNN_STATUS_NOT_SUPPORTED:
      return absl::UnimplementedError(message);
    case CUDNN_STATUS_BAD_PARAM:
      return absl::InvalidArgumentError(message);
    default:
      return absl::InternalError(message);
  }
}

// ---- Descriptor ----

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  status_ = Load();
  if (!status_.ok()) return;
  status_ = ToStatus(Library().create_descriptor(type, &descriptor_),
                     absl::StrCat("create a descriptor of type ", type));
}

Descriptor::~Descriptor() {
  if (descriptor_ != nullptr) Library().destroy_descriptor(descriptor_);
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(status_, other.status_);
  return *this;
}

void Descriptor::SetRaw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                        int64_t count, const void* values) {
  if (!status_.ok()) return;
  status_ = ToStatus(Library().set_attribute(descriptor_, name, type, count, values),
                     absl::StrCat("set attribute ", name));
}

void Descriptor::Set(cudnnBackendAttributeName_t name, const Descriptor& value) {
  const cudnnBackendDescriptor_t pointer = value.get();
  SetRaw(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &pointer);
}

void Descriptor::SetDescriptors(cudnnBackendAttributeName_t name,
                                const std::vector<cudnnBackendDescriptor_t>& values) {
  SetRaw(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, std::ssize(values), values.data());
}

void Descriptor::SetPointers(cudnnBackendAttributeName_t name, const std::vector<void*>& values) {
  SetRaw(name, CUDNN_TYPE_VOID_PTR, std::ssize(values), values.data());
}

absl::Status Descriptor::Finalize() {
  RETURN_IF_ERROR(status_);
  status_ = ToStatus(Library().finalize(descriptor_), "finalize");
  return status_;
}

absl::StatusOr<int64_t> Descriptor::GetRaw(cudnnBackendAttributeName_t name,
                                           cudnnBackendAttributeType_t type, void* values,
                                           int64_t capacity) const {
  RETURN_IF_ERROR(status_);
  int64_t count = 0;
  RETURN_IF_ERROR(
      ToStatus(Library().get_attribute(descriptor_, name, type, capacity, &count, values),
               absl::StrCat("get attribute ", name)));
  return count;
}

absl::StatusOr<int64_t> Descriptor::Get(cudnnBackendAttributeName_t name,
                                        std::vector<Descriptor>& values) const {
  std::vector<cudnnBackendDescriptor_t> pointers;
  pointers.reserve(values.size());
  for (const Descriptor& value : values) pointers.push_back(value.get());
  return GetRaw(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, pointers.data(), std::ssize(pointers));
}

// ---- Device ----

absl::StatusOr<Device> Device::FromOrdinal(int ordinal) {
  Descriptor descriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  descriptor.Set(CUDNN_ATTR_DEVICEPROP_DEVICE_ID, static_cast<int32_t>(ordinal));
  RETURN_IF_ERROR(descriptor.Finalize());
  return Device(std::move(descriptor));
}

absl::StatusOr<Device> Device::FromJson(std::string_view json) {
  Descriptor descriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  descriptor.SetAll(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, json.data(), std::ssize(json));
  RETURN_IF_ERROR(descriptor.Finalize());
  return Device(std::move(descriptor));
}

// ---- Graph ----

Dims PackedStrides(const Dims& dims) {
  Dims strides;
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0; stride *= dims[i]) strides[i] = stride;
  return strides;
}

Tensor Graph::AddTensor(const Dims& dims, const Dims& strides, cudnnDataType_t dtype, Kind kind) {
  const Tensor tensor = {std::ssize(tensors_) + 1, dims, strides, dtype};
  Descriptor descriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  descriptor.Set(CUDNN_ATTR_TENSOR_UNIQUE_ID, tensor.id);
  descriptor.Set(CUDNN_ATTR_TENSOR_DATA_TYPE, dtype);
  descriptor.SetAll(CUDNN_ATTR_TENSOR_DIMENSIONS, dims.data(), std::ssize(dims));
  descriptor.SetAll(CUDNN_ATTR_TENSOR_STRIDES, strides.data(), std::ssize(strides));
  descriptor.Set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, kAlignment);
  if (kind == Kind::kVirtual) descriptor.Set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, true);
  if (kind == Kind::kByValue) descriptor.Set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, true);
  tensors_[tensor.id] = &Keep(std::move(descriptor));
  return tensor;
}

Tensor Graph::Real(const Dims& dims, const Dims& strides, cudnnDataType_t dtype) {
  return AddTensor(dims, strides, dtype, Kind::kReal);
}

Tensor Graph::Virtual(const Dims& dims, cudnnDataType_t dtype) {
  return AddTensor(dims, PackedStrides(dims), dtype, Kind::kVirtual);
}

Tensor Graph::Scalar(float value) {
  const Tensor tensor = AddTensor({1, 1, 1, 1}, {1, 1, 1, 1}, CUDNN_DATA_FLOAT, Kind::kByValue);
  scalars_[tensor.id] = value;
  return tensor;
}

const Descriptor& Graph::Keep(Descriptor part) {
  if (status_.ok()) status_ = part.Finalize();
  return parts_.emplace_back(std::move(part));
}

void Graph::AddOperation(Operation operation, Descriptor descriptor) {
  operations_.push_back(std::move(operation));
  operation_descriptors_.push_back(Keep(std::move(descriptor)).get());
}

void Graph::AddPointwise(cudnnPointwiseMode_t mode, const std::vector<Tensor>& operands,
                         const Tensor& out, int64_t axis) {
  Descriptor function(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  function.Set(CUDNN_ATTR_POINTWISE_MODE, mode);
  const bool logical = out.dtype == CUDNN_DATA_BOOLEAN;
  function.Set(CUDNN_ATTR_POINTWISE_MATH_PREC, logical ? CUDNN_DATA_BOOLEAN : CUDNN_DATA_FLOAT);
  if (axis != kNoAxis) function.Set(CUDNN_ATTR_POINTWISE_AXIS, axis);
  constexpr std::array kOperands = {CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
                                    CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                                    CUDNN_ATTR_OPERATION_POINTWISE_TDESC};
  Descriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.Set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, Keep(std::move(function)));
  for (size_t i = 0; i < operands.size(); ++i) operation.Set(kOperands[i], Of(operands[i]));
  operation.Set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, Of(out));
  AddOperation({Operation::Kind::kPointwise, mode, axis, operands, out}, std::move(operation));
}

void Graph::PointwiseInto(cudnnPointwiseMode_t mode, const std::vector<Tensor>& operands,
                          const Tensor& out) {
  AddPointwise(mode, operands, out, kNoAxis);
}

Tensor Graph::Pointwise(cudnnPointwiseMode_t mode, const Tensor& x, cudnnDataType_t dtype) {
  const Tensor out = Virtual(x.dims, dtype);
  PointwiseInto(mode, {x}, out);
  return out;
}

Tensor Graph::Pointwise(cudnnPointwiseMode_t mode, const Tensor& x, const Tensor& b,
                        cudnnDataType_t dtype) {
  const Tensor out = Virtual(Broadcast({x, b}), dtype);
  PointwiseInto(mode, {x, b}, out);
  return out;
}

Tensor Graph::Select(const Tensor& condition, const Tensor& x, const Tensor& b) {
  const Tensor out = Virtual(Broadcast({condition, x, b}), CUDNN_DATA_FLOAT);
  PointwiseInto(CUDNN_POINTWISE_BINARY_SELECT, {x, b, condition}, out);
  return out;
}

Tensor Graph::Index(const Tensor& x, int64_t axis) {
  const Tensor out = Virtual(x.dims, CUDNN_DATA_INT32);
  AddPointwise(CUDNN_POINTWISE_GEN_INDEX, {x}, out, axis);
  return out;
}

void Graph::ReduceInto(cudnnReduceTensorOp_t op, const Tensor& x, const Tensor& out) {
  Descriptor function(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  function.Set(CUDNN_ATTR_REDUCTION_OPERATOR, op);
  function.Set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  Descriptor operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  operation.Set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, Keep(std::move(function)));
  operation.Set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, Of(x));
  operation.Set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, Of(out));
  AddOperation({Operation::Kind::kReduceColumns, op, kNoAxis, {x}, out}, std::move(operation));
}

Tensor Graph::ReduceColumns(cudnnReduceTensorOp_t op, const Tensor& x) {
  const Tensor out = Virtual({x.dims[0], x.dims[1], x.dims[2], 1}, CUDNN_DATA_FLOAT);
  ReduceInto(op, x, out);
  return out;
}

void Graph::MatmulInto(const Tensor& a, const Tensor& b, const Tensor& out) {
  Descriptor function(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  function.Set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
  Descriptor operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  operation.Set(CUDNN_ATTR_OPERATION_MATMUL_DESC, Keep(std::move(function)));
  operation.Set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, Of(a));
  operation.Set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, Of(b));
  operation.Set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, Of(out));
  AddOperation({Operation::Kind::kMatmul, 0, kNoAxis, {a, b}, out}, std::move(operation));
}

Tensor Graph::Matmul(const Tensor& a, const Tensor& b) {
  const Tensor out = Virtual({a.dims[0], a.dims[1], a.dims[2], b.dims[3]}, CUDNN_DATA_FLOAT);
  MatmulInto(a, b, out);
  return out;
}

Tensor Graph::Transpose(const Tensor& x, cudnnDataType_t dtype) {
  Dims dims = x.dims;
  Dims strides = x.strides;
  std::swap(dims[2], dims[3]);
  std::swap(strides[2], strides[3]);
  const Tensor out = AddTensor(dims, strides, dtype, Kind::kVirtual);
  Descriptor operation(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  operation.Set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, Of(x));
  operation.Set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, Of(out));
  AddOperation({Operation::Kind::kTranspose, 0, kNoAxis, {x}, out}, std::move(operation));
  return out;
}

absl::Status Graph::Finalize() {
  RETURN_IF_ERROR(status_);
  graph_ = Descriptor(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph_.SetDescriptors(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation_descriptors_);
  return graph_.Finalize();
}

}  // namespace entrain::cudnn

#endif  // ENTRAIN_CUDNN
