// Computes a graph for cuDNN on the CPU, operation after operation in float64: whether a graph says what it should is a question
// that needs no GPU.
#ifndef ENTRAIN_TESTS_SUPPORT_CUDNN_GRAPH_REFERENCE_H_
#define ENTRAIN_TESTS_SUPPORT_CUDNN_GRAPH_REFERENCE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

#include "runtime/kernels/cudnn_graph_cuda.h"

namespace entrain {

class CudnnGraphReference {
 public:
  using Doubles = std::vector<double>;

  // Binds a real tensor to where its element 0 lies in memory. Memory outlives this object.
  void Bind(const cudnn::Tensor& tensor, double* memory) { memory_[tensor.id] = memory; }

  void Run(const cudnn::Graph& graph) {
    for (const auto& [id, value] : graph.scalars()) values_[id] = {value};
    for (const cudnn::Operation& operation : graph.operations()) {
      Doubles& out = values_[operation.out.id];
      out.assign(Count(operation.out.dims), 0.0);
      ForEach(operation.out.dims, [&](const cudnn::Dims& at) {
        out[Place(operation.out.dims, at)] = Compute(operation, at);
      });
      Store(operation.out);
    }
  }

 private:
  static int64_t Count(const cudnn::Dims& dims) { return dims[0] * dims[1] * dims[2] * dims[3]; }

  static int64_t Place(const cudnn::Dims& dims, const cudnn::Dims& at) {
    return ((at[0] * dims[1] + at[1]) * dims[2] + at[2]) * dims[3] + at[3];
  }

  static int64_t Offset(const cudnn::Tensor& tensor, const cudnn::Dims& at) {
    int64_t offset = 0;
    for (size_t i = 0; i < at.size(); ++i) offset += at[i] * tensor.strides[i];
    return offset;
  }

  template <typename Function>
  static void ForEach(const cudnn::Dims& dims, Function function) {
    cudnn::Dims at;
    for (at[0] = 0; at[0] < dims[0]; ++at[0]) {
      for (at[1] = 0; at[1] < dims[1]; ++at[1]) {
        for (at[2] = 0; at[2] < dims[2]; ++at[2]) {
          for (at[3] = 0; at[3] < dims[3]; ++at[3]) function(at);
        }
      }
    }
  }

  // An element, of a virtual tensor or one in memory; a dimension of 1 is repeated.
  double At(const cudnn::Tensor& tensor, cudnn::Dims at) {
    for (size_t i = 0; i < at.size(); ++i) at[i] = std::min(at[i], tensor.dims[i] - 1);
    if (const auto found = values_.find(tensor.id); found != values_.end()) {
      return found->second[Place(tensor.dims, at)];
    }
    const auto found = memory_.find(tensor.id);
    if (found == memory_.end()) {
      ADD_FAILURE() << "tensor " << tensor.id << " is read, and nobody wrote or bound it";
      return NAN;
    }
    return found->second[Offset(tensor, at)];
  }

  void Store(const cudnn::Tensor& tensor) {
    const auto found = memory_.find(tensor.id);
    if (found == memory_.end()) return;
    ForEach(tensor.dims, [&](const cudnn::Dims& at) {
      found->second[Offset(tensor, at)] = values_[tensor.id][Place(tensor.dims, at)];
    });
  }

  double Compute(const cudnn::Operation& operation, const cudnn::Dims& at) {
    switch (operation.kind) {
      case cudnn::Operation::Kind::kPointwise:
        return Pointwise(operation, at);
      case cudnn::Operation::Kind::kReduceColumns:
        return Reduce(operation, at);
      case cudnn::Operation::Kind::kMatmul:
        return Matmul(operation, at);
      case cudnn::Operation::Kind::kTranspose:
        return At(operation.operands[0], {at[0], at[1], at[3], at[2]});
    }
    return NAN;
  }

  double Pointwise(const cudnn::Operation& operation, const cudnn::Dims& at) {
    if (operation.mode == CUDNN_POINTWISE_GEN_INDEX) {
      return static_cast<double>(at[static_cast<size_t>(operation.axis)]);
    }
    const double x = At(operation.operands[0], at);
    const double b = operation.operands.size() > 1 ? At(operation.operands[1], at) : NAN;
    switch (operation.mode) {
      case CUDNN_POINTWISE_ADD:
        return x + b;
      case CUDNN_POINTWISE_SUB:
        return x - b;
      case CUDNN_POINTWISE_MUL:
        return x * b;
      case CUDNN_POINTWISE_DIV:
        return x / b;
      case CUDNN_POINTWISE_EXP:
        return std::exp(x);
      case CUDNN_POINTWISE_LOG:
        return std::log(x);
      case CUDNN_POINTWISE_IDENTITY:
        return x;
      case CUDNN_POINTWISE_CMP_GE:
        return x >= b ? 1.0 : 0.0;
      case CUDNN_POINTWISE_BINARY_SELECT:
        return At(operation.operands[2], at) != 0.0 ? x : b;
      default:
        ADD_FAILURE() << "pointwise mode " << operation.mode;
        return NAN;
    }
  }

  double Reduce(const cudnn::Operation& operation, const cudnn::Dims& at) {
    const cudnn::Tensor& x = operation.operands[0];
    double result = At(x, at);
    for (int64_t j = 1; j < x.dims[3]; ++j) {
      const double value = At(x, {at[0], at[1], at[2], j});
      result = operation.mode == CUDNN_REDUCE_TENSOR_MAX ? std::max(result, value) : result + value;
    }
    return result;
  }

  double Matmul(const cudnn::Operation& operation, const cudnn::Dims& at) {
    double sum = 0.0;
    for (int64_t j = 0; j < operation.operands[0].dims[3]; ++j) {
      sum += At(operation.operands[0], {at[0], at[1], at[2], j}) *
             At(operation.operands[1], {at[0], at[1], j, at[3]});
    }
    return sum;
  }

  std::map<int64_t, Doubles> values_;
  std::map<int64_t, double*> memory_;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_CUDNN_GRAPH_REFERENCE_H_
