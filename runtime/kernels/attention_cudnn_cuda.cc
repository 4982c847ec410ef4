#include "runtime/kernels/attention_cudnn_cuda.h"

#ifdef ENTRAIN_CUDNN

#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/kernels/attention_graph_cuda.h"
#include "runtime/kernels/cudnn_graph_cuda.h"
#include "runtime/kernels/cudnn_library_cuda.h"

namespace entrain {
namespace {

constexpr int64_t kWorkspaceAlignment = 256;
constexpr int64_t kBf16Bytes = 2;

int64_t Aligned(int64_t bytes) {
  return (bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
}

// Bytes of a packed fp32 tensor, 0 of one that is not there.
int64_t FloatBytes(const cudnn::Tensor& tensor) {
  if (tensor.id == 0) return 0;
  int64_t count = 1;
  for (const int64_t dim : tensor.dims) count *= dim;
  return Aligned(count * static_cast<int64_t>(sizeof(float)));
}

absl::Status CheckShape(const AttentionShape& shape) {
  if (shape.batch > 0 && shape.positions > 0 && shape.heads > 0 && shape.width > 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("cuDNN attention of batch ", shape.batch, ", ",
                                                 shape.positions, " positions, ", shape.heads,
                                                 " heads of ", shape.width));
}

// The k-th of the three parts of a packed tensor.
const void* Part(const void* packed, const AttentionShape& shape, int64_t k) {
  return static_cast<const char*>(packed) + k * shape.heads * shape.width * kBf16Bytes;
}

class Engine final : public CudnnAttention {
 public:
  Engine(cudnn::Device device, std::optional<cudnn::Handle> handle)
      : device_(std::move(device)), handle_(std::move(handle)) {}

  std::string Name() const override { return absl::StrCat("cuDNN ", cudnn::Version()); }

  absl::StatusOr<Info> Prepare(const Key& key) override {
    ASSIGN_OR_RETURN(const Prepared* prepared, Find(key));
    return Info{prepared->plan.engine(), WorkspaceBytes(*prepared)};
  }

  absl::Status Forward(const AttentionShape& shape, const ForwardOperands& operands,
                       void* workspace, cudaStream_t stream) override {
    ASSIGN_OR_RETURN(const Prepared* prepared, Find({AttentionPass::kForward, shape}));
    const AttentionGraph& graph = prepared->graph;
    return Run(*prepared,
               {{graph.q, Part(operands.qkv, shape, 0)},
                {graph.k, Part(operands.qkv, shape, 1)},
                {graph.v, Part(operands.qkv, shape, 2)},
                {graph.out, operands.out},
                {graph.lse, operands.lse}},
               workspace, stream);
  }

  absl::Status Backward(const Key& key, const BackwardOperands& operands, void* workspace,
                        cudaStream_t stream) override {
    ASSIGN_OR_RETURN(const Prepared* prepared, Find(key));
    const AttentionGraph& graph = prepared->graph;
    char* row_dot = static_cast<char*>(workspace);
    char* dq_sum = row_dot + FloatBytes(graph.row_dot);
    char* rest = dq_sum + FloatBytes(graph.dq_sum);
    return Run(*prepared,
               {{graph.q, Part(operands.qkv, key.shape, 0)},
                {graph.k, Part(operands.qkv, key.shape, 1)},
                {graph.v, Part(operands.qkv, key.shape, 2)},
                {graph.out, operands.out},
                {graph.dout, operands.dout},
                {graph.lse, operands.lse},
                {graph.entropy, operands.entropy},
                {graph.entropy_gradient, operands.entropy_gradient},
                {graph.dq, Part(operands.dqkv, key.shape, 0)},
                {graph.dk, Part(operands.dqkv, key.shape, 1)},
                {graph.dv, Part(operands.dqkv, key.shape, 2)},
                {graph.row_dot, row_dot},
                {graph.dq_sum, dq_sum}},
               rest, stream);
  }

 private:
  struct Prepared {
    AttentionGraph graph;
    cudnn::Plan plan;
  };

  static int64_t WorkspaceBytes(const Prepared& prepared) {
    return FloatBytes(prepared.graph.row_dot) + FloatBytes(prepared.graph.dq_sum) +
           prepared.plan.workspace_bytes();
  }

  absl::StatusOr<Prepared> Make(const Key& key) const {
    RETURN_IF_ERROR(CheckShape(key.shape));
    ASSIGN_OR_RETURN(AttentionGraph graph, BuildAttentionGraph(key));
    // What a backward's graph lets an engine do decides whether it is deterministic; the engines' own notes do not tell.
    ASSIGN_OR_RETURN(cudnn::Plan plan, cudnn::MakePlan(graph.graph, device_, key.deterministic));
    return Prepared{std::move(graph), std::move(plan)};
  }

  // A refusal is kept like a plan: asking again costs nothing.
  absl::StatusOr<const Prepared*> Find(Key key) {
    if (key.pass == AttentionPass::kForward) key.deterministic = true;  // it is, always
    auto found = prepared_.find(key);
    if (found == prepared_.end()) found = prepared_.emplace(key, Make(key)).first;
    if (found->second.ok()) return &*found->second;
    return absl::Status(found->second.status().code(),
                        absl::StrCat(kAttentionPassNames.Name(key.pass).data(), ": ",
                                     found->second.status().message()));
  }

  absl::Status Run(const Prepared& prepared, std::initializer_list<cudnn::Plan::Binding> bindings,
                   void* workspace, cudaStream_t stream) const {
    if (!handle_) {
      return absl::FailedPreconditionError("cuDNN attention for a described device cannot run");
    }
    RETURN_IF_ERROR(handle_->SetStream(stream));
    return prepared.plan.Run(*handle_, bindings, workspace);
  }

  cudnn::Device device_;
  std::optional<cudnn::Handle> handle_;
  std::map<Key, absl::StatusOr<Prepared>> prepared_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CudnnAttention>> CudnnAttention::Create(int ordinal) {
  ASSIGN_OR_RETURN(cudnn::Handle handle, cudnn::Handle::Create());
  ASSIGN_OR_RETURN(cudnn::Device device, cudnn::Device::FromOrdinal(ordinal));
  return std::make_unique<Engine>(std::move(device), std::move(handle));
}

absl::StatusOr<std::unique_ptr<CudnnAttention>> CudnnAttention::CreateFor(
    std::string_view device_json) {
  ASSIGN_OR_RETURN(cudnn::Device device, cudnn::Device::FromJson(device_json));
  return std::make_unique<Engine>(std::move(device), std::nullopt);
}

}  // namespace entrain

#else

namespace entrain {

absl::StatusOr<std::unique_ptr<CudnnAttention>> CudnnAttention::Create(int) {
  return absl::FailedPreconditionError("this program was built without cuDNN");
}

absl::StatusOr<std::unique_ptr<CudnnAttention>> CudnnAttention::CreateFor(std::string_view) {
  return absl::FailedPreconditionError("this program was built without cuDNN");
}

}  // namespace entrain

#endif  // ENTRAIN_CUDNN
