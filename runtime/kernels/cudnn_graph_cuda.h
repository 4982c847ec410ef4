// A thin layer over cuDNN's graph API (cudnn_graph.h): tensors and operations make a graph, the heuristics of a device propose
// engines for it, one of them becomes a plan, a plan runs on a stream.
//
//   auto graph = std::make_shared<cudnn::Graph>();
//   const cudnn::Tensor q = graph->Real({B, H, T, D}, strides, CUDNN_DATA_BFLOAT16);
//   const cudnn::Tensor s = graph->Pointwise(CUDNN_POINTWISE_MUL, graph->Matmul(q, k), graph->Scalar(0.125F));
//   ...
//   RETURN_IF_ERROR(graph->Finalize());
//   ASSIGN_OR_RETURN(const cudnn::Plan plan, cudnn::MakePlan(graph, device, deterministic));
//   RETURN_IF_ERROR(plan.Run(handle, {{q, pointer}, ...}, workspace));
//
// A device may be one that this machine lacks, described by a text: graphs are checked and plans are made all the same, and
// only running them needs the device. Tensors have four dimensions, [batch, head, row, column].
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDNN_GRAPH_CUDA_H_
#define ENTRAIN_RUNTIME_KERNELS_CUDNN_GRAPH_CUDA_H_

#include <cudnn_graph.h>

#include <array>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/kernels/cudnn_library_cuda.h"

namespace entrain::cudnn {

// What cuDNN has to say about the last errors, and not again.
std::string LastWords();

// The error of a call, with cuDNN's own words: Unimplemented when cuDNN does not support what was asked for, InvalidArgument
// for a wrong parameter, else Internal.
absl::Status ToStatus(cudnnStatus_t status, const std::string& call);

// The attribute type by which cuDNN knows a C++ type; other types have none.
template <typename T>
cudnnBackendAttributeType_t AttributeType(T) = delete;
constexpr auto AttributeType(int64_t) { return CUDNN_TYPE_INT64; }
constexpr auto AttributeType(int32_t) { return CUDNN_TYPE_INT32; }
constexpr auto AttributeType(bool) { return CUDNN_TYPE_BOOLEAN; }
constexpr auto AttributeType(char) { return CUDNN_TYPE_CHAR; }
constexpr auto AttributeType(cudnnDataType_t) { return CUDNN_TYPE_DATA_TYPE; }
constexpr auto AttributeType(cudnnPointwiseMode_t) { return CUDNN_TYPE_POINTWISE_MODE; }
constexpr auto AttributeType(cudnnReduceTensorOp_t) { return CUDNN_TYPE_REDUCTION_OPERATOR_TYPE; }
constexpr auto AttributeType(cudnnBackendHeurMode_t) { return CUDNN_TYPE_HEUR_MODE; }
constexpr auto AttributeType(cudnnBackendNumericalNote_t) { return CUDNN_TYPE_NUMERICAL_NOTE; }
constexpr auto AttributeType(cudnnBackendKnobType_t) { return CUDNN_TYPE_KNOB_TYPE; }

// A backend descriptor, destroyed with its object. What fails first is kept and returned by Finalize; later calls do nothing.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept { *this = std::move(other); }
  Descriptor& operator=(Descriptor&& other) noexcept;

  template <typename T>
  void Set(cudnnBackendAttributeName_t name, const T& value) {
    SetRaw(name, AttributeType(T{}), 1, &value);
  }
  template <typename T>
  void SetAll(cudnnBackendAttributeName_t name, const T* values, int64_t count) {
    SetRaw(name, AttributeType(T{}), count, values);
  }
  void Set(cudnnBackendAttributeName_t name, const Descriptor& value);
  void SetDescriptors(cudnnBackendAttributeName_t name,
                      const std::vector<cudnnBackendDescriptor_t>& values);
  void SetPointers(cudnnBackendAttributeName_t name, const std::vector<void*>& values);
  absl::Status Finalize();

  // Up to `capacity` values into `values`; returns how many there are.
  template <typename T>
  absl::StatusOr<int64_t> Get(cudnnBackendAttributeName_t name, T* values, int64_t capacity) const {
    return GetRaw(name, AttributeType(T{}), values, capacity);
  }
  // Into descriptors of the caller's; the same.
  absl::StatusOr<int64_t> Get(cudnnBackendAttributeName_t name,
                              std::vector<Descriptor>& values) const;

  cudnnBackendDescriptor_t get() const { return descriptor_; }

 private:
  void SetRaw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
              const void* values);
  absl::StatusOr<int64_t> GetRaw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                 void* values, int64_t capacity) const;

  cudnnBackendDescriptor_t descriptor_ = nullptr;
  absl::Status status_;
};

// What cuDNN needs to know of a device.
class Device {
 public:
  // A device of this process, by its number.
  static absl::StatusOr<Device> FromOrdinal(int ordinal);
  // Any other, by what cuDNN would write of it (tests/data/devices).
  static absl::StatusOr<Device> FromJson(std::string_view json);
  const Descriptor& descriptor() const { return descriptor_; }

 private:
  explicit Device(Descriptor descriptor) : descriptor_(std::move(descriptor)) {}
  Descriptor descriptor_;
};

using Dims = std::array<int64_t, 4>;

// The packed row-major strides of `dims`.
Dims PackedStrides(const Dims& dims);

// A tensor of a graph.
struct Tensor {
  int64_t id = 0;
  Dims dims = {};
  Dims strides = {};
  cudnnDataType_t dtype = CUDNN_DATA_FLOAT;
};

// An operation of a graph, as it can be read back.
struct Operation {
  enum class Kind { kPointwise, kReduceColumns, kMatmul, kTranspose };
  Kind kind;
  int mode = 0;                  // a cudnnPointwiseMode_t or cudnnReduceTensorOp_t
  int64_t axis = 0;              // of CUDNN_POINTWISE_GEN_INDEX
  std::vector<Tensor> operands;  // in cuDNN's order: x, b and, of a selection, the condition
  Tensor out;
};

// Tensors and operations. What fails first is kept and returned by Finalize. Arithmetic is in fp32. The results of operations
// are virtual (they exist in a fused kernel's registers) unless the operation is told into which real tensor they go.
class Graph {
 public:
  // A tensor in device memory, bound to a pointer when a plan runs.
  Tensor Real(const Dims& dims, const Dims& strides, cudnnDataType_t dtype);
  // A number that is part of the graph.
  Tensor Scalar(float value);

  // Operands of dimension 1 are repeated along it.
  Tensor Pointwise(cudnnPointwiseMode_t mode, const Tensor& x, cudnnDataType_t dtype);
  Tensor Pointwise(cudnnPointwiseMode_t mode, const Tensor& x, const Tensor& b,
                   cudnnDataType_t dtype = CUDNN_DATA_FLOAT);
  void PointwiseInto(cudnnPointwiseMode_t mode, const std::vector<Tensor>& operands,
                     const Tensor& out);
  // x where the condition holds, else b.
  Tensor Select(const Tensor& condition, const Tensor& x, const Tensor& b);
  // The index along an axis of each element of a tensor like x.
  Tensor Index(const Tensor& x, int64_t axis);
  // x summed (or its maximum taken, ...) along columns.
  Tensor ReduceColumns(cudnnReduceTensorOp_t op, const Tensor& x);
  void ReduceInto(cudnnReduceTensorOp_t op, const Tensor& x, const Tensor& out);
  // a [.., m, k] times b [.., k, n].
  Tensor Matmul(const Tensor& a, const Tensor& b);
  void MatmulInto(const Tensor& a, const Tensor& b, const Tensor& out);
  // x with rows and columns exchanged, as an operation.
  Tensor Transpose(const Tensor& x, cudnnDataType_t dtype);

  absl::Status Finalize();

  const Descriptor& descriptor() const { return graph_; }
  const std::map<int64_t, float>& scalars() const { return scalars_; }
  const std::vector<Operation>& operations() const { return operations_; }

 private:
  enum class Kind { kReal, kVirtual, kByValue };
  Tensor AddTensor(const Dims& dims, const Dims& strides, cudnnDataType_t dtype, Kind kind);
  Tensor Virtual(const Dims& dims, cudnnDataType_t dtype);
  void AddPointwise(cudnnPointwiseMode_t mode, const std::vector<Tensor>& operands,
                    const Tensor& out, int64_t axis);
  // Finalizes a part of the graph, which lives as long as the graph.
  const Descriptor& Keep(Descriptor part);
  void AddOperation(Operation operation, Descriptor descriptor);
  const Descriptor& Of(const Tensor& tensor) const { return *tensors_.at(tensor.id); }

  absl::Status status_;
  std::deque<Descriptor> parts_;
  std::map<int64_t, const Descriptor*> tensors_;
  std::vector<Operation> operations_;
  std::vector<cudnnBackendDescriptor_t> operation_descriptors_;
  std::map<int64_t, float> scalars_;
  Descriptor graph_;
};

// An engine with its settings, compiled or about to be.
struct Candidate {
  Descriptor config;
  int64_t engine = 0;
  bool deterministic = true;
};
// What the device's heuristics propose for a graph, the best guess first; at least one, or an error with cuDNN's reasons.
absl::StatusOr<std::vector<Candidate>> Candidates(const Graph& graph, const Device& device);

class Handle;

class Plan {
 public:
  int64_t workspace_bytes() const { return workspace_bytes_; }
  int64_t engine() const { return candidate_.engine; }

  // Pointers of the graph's real tensors; those with the id 0 are passed over.
  struct Binding {
    const Tensor& tensor;
    const void* pointer;
  };
  absl::Status Run(const Handle& handle, std::initializer_list<Binding> bindings,
                   void* workspace) const;

 private:
  friend absl::StatusOr<Plan> MakePlan(std::shared_ptr<const Graph> graph, const Device& device,
                                       Candidate candidate);
  std::shared_ptr<const Graph> graph_;
  Candidate candidate_;
  Descriptor plan_;
  int64_t workspace_bytes_ = 0;
};

// The plan of one candidate: compiles its kernels, seconds.
absl::StatusOr<Plan> MakePlan(std::shared_ptr<const Graph> graph, const Device& device,
                              Candidate candidate);
// The plan of the first candidate that makes one. An error lists what each of them lacks.
absl::StatusOr<Plan> MakePlan(std::shared_ptr<const Graph> graph, const Device& device,
                              bool deterministic);

// What plans run with: needs a device.
class Handle {
 public:
  static absl::StatusOr<Handle> Create();
  absl::Status SetStream(cudaStream_t stream) const;
  cudnnHandle_t get() const { return handle_.get(); }

 private:
  struct Destroy {
    void operator()(cudnnHandle_t handle) const { Library().destroy(handle); }
  };
  explicit Handle(cudnnHandle_t handle) : handle_(handle) {}
  std::unique_ptr<cudnnContext, Destroy> handle_;
};

}  // namespace entrain::cudnn

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDNN_GRAPH_CUDA_H_
