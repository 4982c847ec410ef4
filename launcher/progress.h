// What a person watching a run sees: one line a logged step and, on a terminal, a bar under it.
#ifndef ENTRAIN_LAUNCHER_PROGRESS_H_
#define ENTRAIN_LAUNCHER_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "launcher/metrics.h"

namespace entrain {

// "8s", "3m12s", "1h04m", "2d03h": two units, rounded to the smaller. Negative or not finite: "?".
std::string HumanDuration(double seconds);

// "950", "12.3k", "4.56M", "1.20G": three digits.
std::string HumanCount(double count);

// "MFU 41.2%": the share of what the GPUs can do at most; "MFU n/a" where that is not known.
std::string MfuText(std::optional<double> mfu);

struct ProgressOptions {
  int64_t first_step = 0;  // optimizer steps done before this process
  int64_t total_steps = 0;
  double flops_per_token = 0.0;  // of forward and backward; 0: not shown
  bool on_gpu = false;           // MFU is shown
  std::FILE* out = stdout;
  std::optional<bool> terminal;  // nothing: whether `out` is one
  std::optional<int> columns;    // of the bar; nothing: the terminal's
};

// "step  120/1000  loss 4.1234  penalty 0.0123  overload 12%  collapse 3%  lr 9.8e-04  12.3k tok/s
// 210 GFLOP/s  MFU 41.2%  ETA 3m12s". overload and collapse are the last and the first bucket share, left
// out without entropies; "val 4.2" is added on validation, "SKIPPED" where no update was made.
std::string ProgressLine(const StepMetrics& metrics, const ProgressOptions& options,
                         double eta_seconds);

// The bar lives on the last line of the terminal: a line clears it, is printed, and the bar is
// drawn again below. To a file only lines go. For one thread.
class Progress {
 public:
  explicit Progress(const ProgressOptions& options);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { Finish(); }

  // A step is done: moves the bar, at most ten times a second.
  void Step(int64_t step);
  // A logged step's line.
  void Log(const StepMetrics& metrics);
  // Any other line ("saved ...", "validation ..."), so that it does not run into the bar.
  void Say(const std::string& text);
  // Removes the bar; the cursor is at the start of a line. May be called again.
  void Finish();

 private:
  using Clock = std::chrono::steady_clock;

  double Seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  double EtaSeconds(int64_t step) const;
  void ClearBar();
  void DrawBar();

  ProgressOptions options_;
  bool terminal_;
  bool bar_shown_ = false;
  int64_t step_;
  Clock::time_point start_;
  Clock::time_point drawn_;
};

// "[=====>    ] 120/1000  12%  ETA 3m12s", `columns` wide.
std::string ProgressBar(int64_t step, int64_t total_steps, double eta_seconds, int columns);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_PROGRESS_H_
