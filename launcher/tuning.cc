#include "launcher/tuning.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/tuning_warm_up.h"
#include "runtime/device/device_memory.h"
#include "runtime/kernels/matmul_tuning.h"

namespace entrain {
namespace {

constexpr double kLeastGain = 0.01;  // below which attention stays as it is
constexpr const char* kOurs = "entrain";

EntropyGradientKind GradientOf(const ModelConfig& model) {
  if (!model.entropy_regularizer) return EntropyGradientKind::kNone;
  return model.entropy_regularizer->granularity == Granularity::kHead ? EntropyGradientKind::kHead
                                                                      : EntropyGradientKind::kRow;
}

bool AsksForTable(const TrainConfig& config) {
  return config.train.tune || !config.train.tuning.empty();
}

// "cuDNN 9.19.0 for the backward at T 1024"
std::string Named(const std::string& name, const AttentionWork& work) {
  return absl::StrCat(name, " for the backward at T ", work.positions);
}

std::string Megabytes(int64_t bytes) {
  return absl::StrFormat("%.0f MB", static_cast<double>(bytes) / 1e6);
}

}  // namespace

AttentionWork AttentionWorkOf(const TrainConfig& config, const MeshShape& mesh) {
  return {.batch = config.micro_batch(mesh.dp),
          .positions = config.model.context,
          .heads = config.model.heads / mesh.tp,
          .width = config.model.head_width(),
          .dtype = config.compute_dtype(),
          .temperature = config.model.temperature != Temperature::kNone,
          .entropy_gradient = GradientOf(config.model)};
}

// ---- tables ----

absl::Status RunTuning::Choose(const MeshShape& mesh, const Start& start) {
  start_ = start;
  work_ = AttentionWorkOf(config_, mesh);
  if (context_.device() == DeviceKind::kCpu && !stands_in()) return ChooseOnCpu();
  RETURN_IF_ERROR(ReadTable(start.resumed() ? FolderTable() : config_.train.tuning));
  measures_ = AsksForTable(config_) && !start.resumed() && !start.dry_run;
  if (start.resumed() && table_text_.empty()) NoteMissingTable();
  if (start.dry_run && config_.train.tune && !start.resumed())
    text_ = "measured when the run starts";
  if (!stands_in()) return ChooseAttention();
  PlanAttention();
  return absl::OkStatus();
}

bool RunTuning::stands_in() const {
  return context_.device() == DeviceKind::kCpu && start_.dry_run &&
         config_.train.device == DeviceChoice::kCuda;
}

absl::Status RunTuning::ChooseOnCpu() {
  if (config_.train.attention == AttentionChoice::kCudnn) {
    return absl::FailedPreconditionError(
        absl::StrCat("train.attention = cudnn: cuDNN needs a GPU, and ", start_.on_cpu,
                     R"(; set it to "entrain" or "auto")"));
  }
  if (start_.resumed()) return absl::OkStatus();
  if (!config_.train.tuning.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("train.tuning = \"", config_.train.tuning,
                                                      "\" is for a GPU, and ", start_.on_cpu,
                                                      "; leave it out to compute there"));
  }
  if (config_.train.tune) {
    notices_.emplace_back("train.tune: there is nothing to choose on the CPU, nothing is measured");
  }
  return absl::OkStatus();
}

// What the run began by is known by its configuration alone, which may have changed since. A checkpoint that cannot be read is
// refused later.
void RunTuning::NoteMissingTable() {
  const std::string path = JoinPath(start_.checkpoint, "config.toml");
  const absl::StatusOr<std::string> text = fs_.ReadText(path);
  const auto saved =
      text.ok() ? ParseTrainConfig(*text, path, {}) : absl::StatusOr<TrainConfig>(text.status());
  if (saved.ok() && AsksForTable(*saved)) {
    notices_.push_back(absl::StrCat(
        FolderTable(),
        " is missing, and the checkpoint's configuration asks for a table of measurements. The run "
        "goes on by none: if it began by one, from here on its last bits may differ from those of "
        "a run that was never interrupted"));
  } else if (AsksForTable(config_)) {
    notices_.emplace_back(
        "the run began by no table of measurements and goes on so, whatever train.tune and "
        "train.tuning say");
  }
}

// One rank reads, so that all have one table.
absl::Status RunTuning::ReadTable(const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  absl::Status mine;
  std::string text;
  if (world_.rank() == 0) {
    const absl::StatusOr<bool> exists = fs_.Exists(path);
    mine = exists.status();
    if (mine.ok() && (*exists || !start_.resumed())) {
      absl::StatusOr<std::string> read = fs_.ReadText(path);
      mine = read.status();
      if (read.ok()) text = *std::move(read);
      if (mine.ok() && text.empty()) mine = absl::InvalidArgumentError("the file is empty");
    }
  }
  if (const auto status = world_.Agree(mine, "reading the table of measurements"); !status.ok()) {
    return Refusal(status);
  }
  world_.BroadcastText(&text, 0, "the table of measurements");
  return text.empty() ? absl::OkStatus() : TakeTable(text, path);
}

absl::Status RunTuning::Refusal(const absl::Status& status) const {
  const std::string message(status.message());
  if (!start_.resumed() && config_.train.tuning.empty()) {
    return absl::Status(status.code(), absl::StrCat("what this run measured: ", message));
  }
  if (!start_.resumed()) {
    return absl::Status(status.code(),
                        absl::StrCat("train.tuning = \"", config_.train.tuning, "\": ", message,
                                     "; give the tuning.txt of a run like this one on such a GPU "
                                     "with such libraries, or set "
                                     "train.tune = true instead, which measures here"));
  }
  return absl::Status(
      status.code(),
      absl::StrCat(FolderTable(), ": ", message,
                   "; put the file back as the run wrote it, or remove it to go on without: the "
                   "run's last bits may differ from there on"));
}

absl::Status RunTuning::RefuseOrWarn(const absl::Status& status, const std::string& from) {
  const std::string message(status.message());
  // Damage can be undone, other than a change of machine.
  if (!start_.resumed() || absl::IsInvalidArgument(status)) return Refusal(status);
  notices_.push_back(
      absl::StrCat(from, " is not used: ", message,
                   ". The run began by it: from here on its last bits may differ from those of "
                   "a run that was never interrupted"));
  return absl::OkStatus();
}

void RunTuning::PlanTable(TuningTable table, const std::string& from) {
  text_ = absl::StrCat(table.NumProducts(), " products in ", from, ", measured on ", table.Place(),
                       "; a start counts those that this run makes");
  table_ = std::move(table);
}

absl::Status RunTuning::TakeTable(const std::string& text, const std::string& from) {
  table_text_ = text;
  absl::StatusOr<TuningTable> table = ParseTuningTable(text);
  if (!table.ok()) return RefuseOrWarn(table.status(), from);
  if (stands_in()) {
    PlanTable(*std::move(table), from);
    return absl::OkStatus();
  }
  // Before any rank changes anything.
  const std::string here = TuningTable{.products = MatmulTable(context_)}.Place();
  absl::Status mine;
  if (table->Place() != here) {
    mine = absl::FailedPreconditionError(
        absl::StrCat("measured on ", table->Place(), "; here is ", here));
  }
  if (const auto status = world_.Agree(mine, "a table of measurements"); !status.ok()) {
    return RefuseOrWarn(status, from);
  }
  const absl::StatusOr<int> taken =
      UseMatmulTable(context_, table->products, table->first_product_line);
  mine = taken.status();
  if (taken.ok() && *taken != table->NumProducts()) {
    mine = absl::FailedPreconditionError(absl::StrCat(
        "cuBLASLt has ", *taken, " of its ", table->NumProducts(), " choices of algorithms"));
  }
  if (const auto status = world_.Agree(mine, "a table of products"); !status.ok()) {
    return Refusal(status);
  }
  text_ = absl::StrCat(table->NumProducts(), " products in ", from,
                       start_.dry_run ? "; a start counts those that this run makes" : "");
  table_ = *std::move(table);
  return absl::OkStatus();
}

absl::Status RunTuning::Write() const {
  if (start_.resumed()) return absl::OkStatus();
  if (!table_text_.empty()) return WriteTextAtomically(fs_, FolderTable(), table_text_);
  // Of an earlier start that left no checkpoint.
  ASSIGN_OR_RETURN(const bool stale, fs_.Exists(FolderTable()));
  return stale ? fs_.RemoveFile(FolderTable()) : absl::OkStatus();
}

// ---- attention ----

void RunTuning::UseCudnn(const CudnnBackward& backward, const std::string& why) {
  attention_bytes_ = backward.workspace_bytes;
  attention_text_ = absl::StrCat(Named(backward.name, work_), " (", why, "), workspace ",
                                 Megabytes(backward.workspace_bytes));
}

void RunTuning::PlanAttention() {
  const bool asked = config_.train.attention == AttentionChoice::kCudnn;
  const MeasuredAttention* measured = MeasuredHere();
  if (!asked && (measured == nullptr || !measured->cudnn)) return;
  attention_bytes_ = EstimateCudnnWorkspace(work_);
  attention_text_ = absl::StrCat("cuDNN for the backward (", asked ? "asked for" : "by the table",
                                 "), provided that the GPU's machine has it");
}

const MeasuredAttention* RunTuning::MeasuredHere() const {
  const bool found = config_.train.attention == AttentionChoice::kAuto && table_ &&
                     table_->attention && table_->attention->work == work_;
  return found ? &*table_->attention : nullptr;
}

absl::Status RunTuning::ChooseAttention() {
  attention_text_ = absl::StrCat(kOurs, " (not measured)");
  if (config_.train.attention == AttentionChoice::kEntrain) {
    attention_text_ = absl::StrCat(kOurs, " (asked for)");
    return absl::OkStatus();
  }
  if (config_.train.attention == AttentionChoice::kAuto) {
    const MeasuredAttention* measured = MeasuredHere();
    return measured == nullptr ? absl::OkStatus() : TakeMeasuredAttention(*measured);
  }
  const absl::StatusOr<CudnnBackward> used = UseCudnnBackward(context_, work_);
  const absl::Status status = world_.Agree(used.status(), "choosing cuDNN");
  if (!status.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("train.attention = cudnn: ", std::string(status.message()),
                     R"(; take "entrain" or "auto")"));
  }
  UseCudnn(*used, "asked for");
  return absl::OkStatus();
}

absl::Status RunTuning::TakeMeasuredAttention(const MeasuredAttention& measured) {
  const AttentionTimes& times = measured.times;
  if (!measured.cudnn) {
    attention_text_ = times.cudnn_ms > 0.0
                          ? absl::StrFormat("%s (measured %.2fx as fast as %s)", kOurs,
                                            times.cudnn_ms / times.entrain_ms, measured.name)
                          : absl::StrCat(kOurs, " (", measured.name, ")");
    return absl::OkStatus();
  }
  const absl::StatusOr<CudnnBackward> used = UseCudnnBackward(context_, work_);
  absl::Status mine = used.status();
  if (used.ok() && used->name != measured.name) {
    mine = absl::FailedPreconditionError(
        absl::StrCat("attention was measured with ", measured.name, "; here is ", used->name));
  }
  if (const auto status = world_.Agree(mine, "choosing attention"); !status.ok()) {
    UseOwnBackward(context_);
    return RefuseOrWarn(status, "the table's choice of attention");
  }
  UseCudnn(*used, absl::StrFormat("measured %.2fx as fast as entrain's",
                                  times.entrain_ms / times.cudnn_ms));
  return absl::OkStatus();
}

// ---- measuring ----

MeasuredAttention RunTuning::MeasureAttention(int64_t later) {
  MeasuredAttention measured{.work = work_};
  const absl::StatusOr<CudnnBackward> found = FindCudnnBackward(context_, work_);
  absl::Status status = found.status();
  const int64_t free = MemoryOf(context_).free;
  if (found.ok() && found->workspace_bytes + later > free) {
    status = absl::ResourceExhaustedError(absl::StrCat("no room for the workspace of ", found->name,
                                                       ", ", Megabytes(found->workspace_bytes)));
  }
  if (status.ok()) {
    const auto times = TimeAttentionBackward(context_, work_, {}, free);
    status = times.status();
    if (times.ok()) {
      measured.times = *times;
      measured.name = found->name;
      measured.cudnn = times->cudnn_ms < (1.0 - kLeastGain) * times->entrain_ms;
    }
  }
  if (!status.ok()) measured.name = std::string(status.message());
  // A line of the table.
  for (char& letter : measured.name) {
    if (letter == '\n') letter = ' ';
  }
  return measured;
}

absl::Status RunTuning::Measure(Model& model, const Mesh& mesh, int64_t later) {
  measures_ = false;
  // Ranks of tp compute together; then one measures.
  WarmUp(config_, context_, mesh, model);
  if (table_) return CountServed();
  std::string text;
  int other = 0;
  if (world_.rank() == 0) {
    for (const TunedMatmul& tuned : TuneMatmuls(context_, {})) other += tuned.choice == 0 ? 0 : 1;
    TuningTable table{.products = MatmulTable(context_)};
    if (config_.train.attention == AttentionChoice::kAuto)
      table.attention = MeasureAttention(later);
    text = ToText(table);
  }
  world_.BroadcastText(&text, 0, "what was measured");
  RETURN_IF_ERROR(TakeTable(text, "what this run measured"));
  RETURN_IF_ERROR(ChooseAttention());
  text_ = absl::StrFormat(
      "%d products measured, %d by another algorithm than the first proposed; "
      "written to tuning.txt",
      table_->NumProducts(), other);
  return absl::OkStatus();
}

absl::Status RunTuning::CountServed() {
  const MatmulKinds kinds = KindsRun(context_);
  absl::Status mine;
  if (kinds.by_table == 0) {
    mine = absl::FailedPreconditionError(absl::StrCat(
        "none of its ", table_->NumProducts(), " products is one of the ", kinds.all,
        " of this run: it was measured with another model, micro-batch, precision or mesh"));
  }
  if (const auto status = world_.Agree(mine, "counting products"); !status.ok()) {
    return Refusal(status);
  }
  text_ = absl::StrFormat("%d of this run's %d products by %s", kinds.by_table, kinds.all,
                          config_.train.tuning);
  return absl::OkStatus();
}

}  // namespace entrain
