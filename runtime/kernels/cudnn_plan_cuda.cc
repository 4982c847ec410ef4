#ifdef ENTRAIN_CUDNN

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/kernels/cudnn_graph_cuda.h"

namespace entrain::cudnn {
namespace {

// Which engine a configuration is of, and whether it says that its sums come in no fixed order.
absl::Status Examine(Candidate& candidate) {
  std::vector<Descriptor> engine;
  engine.emplace_back(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  RETURN_IF_ERROR(candidate.config.Get(CUDNN_ATTR_ENGINECFG_ENGINE, engine).status());
  RETURN_IF_ERROR(engine[0].Get(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, &candidate.engine, 1).status());
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes;
  ASSIGN_OR_RETURN(const int64_t count, engine[0].Get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                                      notes.data(), std::ssize(notes)));
  for (int64_t i = 0; i < count; ++i) {
    if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) candidate.deterministic = false;
  }
  return absl::OkStatus();
}

absl::Status Propose(const Graph& graph, const Device& device, cudnnBackendHeurMode_t mode,
                     std::vector<Candidate>& candidates) {
  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.Set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph.descriptor());
  heuristics.Set(CUDNN_ATTR_ENGINEHEUR_MODE, mode);
  heuristics.Set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device.descriptor());
  RETURN_IF_ERROR(heuristics.Finalize());
  std::vector<Descriptor> configs;
  ASSIGN_OR_RETURN(const int64_t proposed, heuristics.Get(CUDNN_ATTR_ENGINEHEUR_RESULTS, configs));
  for (int64_t i = 0; i < proposed; ++i) configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  ASSIGN_OR_RETURN(const int64_t count, heuristics.Get(CUDNN_ATTR_ENGINEHEUR_RESULTS, configs));
  for (int64_t i = 0; i < count; ++i) {
    Candidate candidate{std::move(configs[i])};
    RETURN_IF_ERROR(Examine(candidate));
    candidates.push_back(std::move(candidate));
  }
  return absl::OkStatus();
}

// "; engine 7: Only 2 sq broadcasted vectors are supported on SM80; ...": of cuDNN's words on each engine it thought of, the
// innermost reason.
std::string Reasons(std::string_view words) {
  constexpr std::string_view kEngine = "\"engineId\":";
  constexpr std::string_view kReason = "Reason: ";
  std::string reasons;
  for (size_t at = words.find(kEngine); at != words.npos; at = words.find(kEngine, at)) {
    at += kEngine.size();
    const std::string_view engine = words.substr(at, words.find_first_of(",}", at) - at);
    at = words.find(kReason, at);
    if (at == words.npos) break;
    at += kReason.size();
    const size_t end = std::min(words.find('\n', at), words.find(" at: ", at));
    const std::string reason = absl::StrCat("; engine ", std::string(engine), ": ",
                                            std::string(words.substr(at, end - at)));
    if (reasons.find(reason) == reasons.npos) reasons += reason;
  }
  return reasons;
}

}  // namespace

absl::StatusOr<std::vector<Candidate>> Candidates(const Graph& graph, const Device& device) {
  std::vector<Candidate> candidates;
  LastWords();  // of earlier calls
  RETURN_IF_ERROR(Propose(graph, device, CUDNN_HEUR_MODE_A, candidates));
  if (!candidates.empty()) return candidates;
  const std::string reasons = Reasons(LastWords());
  RETURN_IF_ERROR(Propose(graph, device, CUDNN_HEUR_MODE_FALLBACK, candidates));
  if (!candidates.empty()) return candidates;
  return absl::UnimplementedError(absl::StrCat("cuDNN has no engine for the graph", reasons));
}

absl::StatusOr<Plan> MakePlan(std::shared_ptr<const Graph> graph, const Device& device,
                              Candidate candidate) {
  Plan plan;
  plan.graph_ = std::move(graph);
  plan.candidate_ = std::move(candidate);
  plan.plan_ = Descriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  plan.plan_.Set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, plan.candidate_.config);
  plan.plan_.Set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device.descriptor());
  RETURN_IF_ERROR(plan.plan_.Finalize());
  RETURN_IF_ERROR(
      plan.plan_.Get(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, &plan.workspace_bytes_, 1).status());
  return plan;
}

absl::StatusOr<Plan> MakePlan(std::shared_ptr<const Graph> graph, const Device& device,
                              bool deterministic) {
  ASSIGN_OR_RETURN(std::vector<Candidate> candidates, Candidates(*graph, device));
  std::string reasons;
  for (Candidate& candidate : candidates) {
    const int64_t engine = candidate.engine;
    if (deterministic && !candidate.deterministic) {
      absl::StrAppend(&reasons, "; engine ", engine, " is not deterministic");
      continue;
    }
    absl::StatusOr<Plan> plan = MakePlan(graph, device, std::move(candidate));
    if (plan.ok()) return plan;
    absl::StrAppend(&reasons, "; engine ", engine, ": ", plan.status().message());
  }
  return absl::UnimplementedError(absl::StrCat("cuDNN has no plan for the graph", reasons));
}

absl::Status Plan::Run(const Handle& handle, std::initializer_list<Binding> bindings,
                       void* workspace) const {
  std::vector<int64_t> ids;
  std::vector<void*> pointers;
  for (const auto& [tensor, pointer] : bindings) {
    if (tensor.id == 0) continue;
    ids.push_back(tensor.id);
    pointers.push_back(const_cast<void*>(pointer));
  }
  for (const auto& [id, value] : graph_->scalars()) {
    ids.push_back(id);
    pointers.push_back(const_cast<float*>(&value));
  }
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.SetAll(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids.data(), std::ssize(ids));
  pack.SetPointers(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, pointers);
  pack.SetPointers(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, {workspace});
  RETURN_IF_ERROR(pack.Finalize());
  return ToStatus(Library().execute(handle.get(), plan_.get(), pack.get()), "run a plan");
}

absl::StatusOr<Handle> Handle::Create() {
  RETURN_IF_ERROR(Load());
  cudnnHandle_t handle = nullptr;
  RETURN_IF_ERROR(ToStatus(Library().create(&handle), "create a handle"));
  return Handle(handle);
}

absl::Status Handle::SetStream(cudaStream_t stream) const {
  return ToStatus(Library().set_stream(handle_.get(), stream), "set the stream");
}

}  // namespace entrain::cudnn

#endif  // ENTRAIN_CUDNN
