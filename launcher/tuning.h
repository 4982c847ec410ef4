// RunTuning: what a run's GPU ops are chosen by: nothing (the libraries' first choice, this project's attention), a table that was
// measured before, or one that this run measures before its first step. Equal bits need equal choices: they are the same on all
// ranks, are never made in mid-run, and a run that continues takes those that it began with from its folder.
#ifndef ENTRAIN_LAUNCHER_TUNING_H_
#define ENTRAIN_LAUNCHER_TUNING_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/train_config.h"
#include "launcher/tuning_table.h"
#include "model/model.h"
#include "parallel/mesh.h"
#include "runtime/device/context.h"
#include "runtime/io/file_system.h"

namespace entrain {

class RunTuning {
 public:
  // All must outlive it. Every rank makes one, calls the same functions and gets the same status.
  RunTuning(FileSystem& fs, const TrainConfig& config, Context& context, Communicator& world)
      : fs_(fs), config_(config), context_(context), world_(world) {}

  struct Start {
    std::string checkpoint;  // from which the run continues; "": it starts
    bool dry_run = false;    // the device may be a stand-in
    std::string on_cpu;      // RunDevice's: that the CPU computes, and why

    bool resumed() const { return !checkpoint.empty(); }
  };
  // Takes the table of the run's folder, when it is resumed, or of train.tuning, and chooses attention's engine. A table that is
  // not for this GPU is an error of a fresh run and a notice of a resumed one. Where the CPU stands in for a GPU, the table is read and
  // not taken.
  absl::Status Choose(const MeshShape& mesh, const Start& start);
  // Whether there is something to measure yet, or to count.
  bool measures() const { return measures_; }
  // On the first rank, for all. Of a table that was given, counts which of the run's products it serves: none is an error. The model has memory and no values that matter; its values are any afterwards. `later`: bytes of
  // the device that the run has still to take.
  absl::Status Measure(Model& model, const Mesh& mesh, int64_t later);
  // Of the first rank: leaves in the run's folder what it began with.
  absl::Status Write() const;

  // Of cuDNN's backward.
  int64_t attention_bytes() const { return attention_bytes_; }
  // For the banner.
  const std::string& attention_text() const { return attention_text_; }
  const std::string& text() const { return text_; }
  const std::vector<std::string>& notices() const { return notices_; }

 private:
  std::string FolderTable() const { return JoinPath(config_.run.dir, "tuning.txt"); }
  // The CPU is in the place of a GPU that is not here, to plan.
  bool stands_in() const;
  absl::Status ChooseOnCpu();
  // Of a resumed run without a table.
  void NoteMissingTable();
  absl::Status ReadTable(const std::string& path);
  // Where there is no GPU to take it.
  void PlanTable(TuningTable table, const std::string& from);
  absl::Status TakeTable(const std::string& text, const std::string& from);
  absl::Status ChooseAttention();
  // Where there is no GPU to ask.
  void PlanAttention();
  // Of the table, if attention is chosen by it; or null.
  const MeasuredAttention* MeasuredHere() const;
  absl::Status TakeMeasuredAttention(const MeasuredAttention& measured);
  void UseCudnn(const CudnnBackward& backward, const std::string& why);
  MeasuredAttention MeasureAttention(int64_t later);
  absl::Status CountServed();
  // What is wrong with the table that this run was given or began by, and what to do.
  absl::Status Refusal(const absl::Status& status) const;
  // An error of a fresh run; of a resumed one where the table is damaged, else a notice.
  absl::Status RefuseOrWarn(const absl::Status& status, const std::string& from);

  FileSystem& fs_;
  const TrainConfig& config_;
  Context& context_;
  Communicator& world_;
  AttentionWork work_;
  Start start_;
  bool measures_ = false;
  std::string table_text_;  // "": by no table
  std::optional<TuningTable> table_;
  int64_t attention_bytes_ = 0;
  std::string attention_text_;
  std::string text_;
  std::vector<std::string> notices_;
};

// What attention's backward is asked on a rank of the mesh.
AttentionWork AttentionWorkOf(const TrainConfig& config, const MeshShape& mesh);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TUNING_H_
