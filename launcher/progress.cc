#include "launcher/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_format.h"

namespace entrain {
namespace {

constexpr std::chrono::milliseconds kRedrawInterval{100};
constexpr const char* kClearLine = "\r\x1b[K";

// "step  120/1000": as wide at the first step as at the last.
std::string StepText(int64_t step, int64_t total_steps) {
  const std::string total = std::to_string(total_steps);
  return absl::StrFormat("step %*d/%s", static_cast<int>(total.size()), step, total);
}

// 80 where the terminal does not say.
int ColumnsOf(std::FILE* terminal) {
  winsize size{};
  const bool known = ioctl(fileno(terminal), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

std::string Percent(double share) { return absl::StrFormat("%.0f%%", 100.0 * share); }

}  // namespace

std::string HumanDuration(double seconds) {
  constexpr double kLongest = 1e15;  // 30 million years; beyond it an integer would overflow
  if (!(seconds >= 0.0) || seconds > kLongest) return "?";
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return absl::StrFormat("%ds", whole);
  if (whole < 3600) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  constexpr int64_t kMinutesADay = 1440;
  const int64_t minutes = std::llround(seconds / 60.0);
  if (minutes < kMinutesADay) return absl::StrFormat("%dh%02dm", minutes / 60, minutes % 60);
  const int64_t hours = std::llround(seconds / 3600.0);
  return absl::StrFormat("%dd%02dh", hours / 24, hours % 24);
}

std::string HumanCount(double count) {
  if (!std::isfinite(count)) return "?";
  const char* unit = "";
  for (const char* larger : {"k", "M", "G", "T"}) {
    if (std::abs(count) < 999.5) break;
    count /= 1000.0;
    unit = larger;
  }
  const double size = std::abs(count);
  const bool small_whole = *unit == '\0' && size == std::floor(size);
  const int digits = small_whole || size >= 99.95 ? 0 : (size >= 9.995 ? 1 : 2);
  return absl::StrFormat("%.*f%s", digits, count, unit);
}

std::string MfuText(std::optional<double> mfu) {
  return mfu ? absl::StrFormat("MFU %.1f%%", 100.0 * *mfu) : "MFU n/a";
}

std::string ProgressLine(const StepMetrics& metrics, const ProgressOptions& options,
                         double eta_seconds) {
  std::string line = StepText(metrics.step, options.total_steps);
  line += absl::StrFormat("  loss %.4f  penalty %.4f", metrics.loss, metrics.penalty);
  if (metrics.validation_loss) line += absl::StrFormat("  val %.4f", *metrics.validation_loss);
  if (metrics.entropy) {
    const std::array<double, 4>& shares = metrics.entropy->buckets;
    line += "  overload " + Percent(shares[3]) + "  collapse " + Percent(shares[0]);
  }
  line += absl::StrFormat("  lr %.1e  %s tok/s", metrics.lr, HumanCount(metrics.tokens_per_second));
  if (options.flops_per_token > 0.0) {
    const double gflops = 1e-9 * options.flops_per_token * metrics.tokens_per_second;
    line += absl::StrFormat("  %s GFLOP/s", HumanCount(gflops));
  }
  if (options.on_gpu) line += "  " + MfuText(metrics.mfu);
  line += "  ETA " + HumanDuration(eta_seconds);
  return metrics.skipped ? line + "  SKIPPED" : line;
}

std::string ProgressBar(int64_t step, int64_t total_steps, double eta_seconds, int columns) {
  const double share =
      total_steps > 0
          ? std::clamp(static_cast<double>(step) / static_cast<double>(total_steps), 0.0, 1.0)
          : 1.0;
  const std::string text = absl::StrFormat(" %d/%d %3.0f%%  ETA %s", step, total_steps,
                                           std::floor(100.0 * share), HumanDuration(eta_seconds));
  const int width = std::max(10, columns - 2 - static_cast<int>(text.size()));
  std::string bar(static_cast<size_t>(share * width), '=');
  if (bar.size() < static_cast<size_t>(width)) bar += '>';
  bar.resize(static_cast<size_t>(width), ' ');
  return "[" + bar + "]" + text;
}

Progress::Progress(const ProgressOptions& options)
    : options_(options),
      terminal_(options.terminal.value_or(isatty(fileno(options.out)) == 1)),
      step_(options.first_step),
      start_(Clock::now()),
      drawn_(start_ - kRedrawInterval) {}

double Progress::EtaSeconds(int64_t step) const {
  const int64_t done = step - options_.first_step;
  if (done <= 0) return std::numeric_limits<double>::quiet_NaN();
  const auto left = static_cast<double>(std::max<int64_t>(options_.total_steps - step, 0));
  return Seconds() / static_cast<double>(done) * left;
}

void Progress::Step(int64_t step) {
  step_ = step;
  if (Clock::now() - drawn_ >= kRedrawInterval) DrawBar();
}

void Progress::Log(const StepMetrics& metrics) {
  step_ = metrics.step;
  Say(ProgressLine(metrics, options_, EtaSeconds(metrics.step)));
}

void Progress::Say(const std::string& text) {
  ClearBar();
  std::fputs((text + "\n").c_str(), options_.out);
  DrawBar();
  std::fflush(options_.out);
}

void Progress::Finish() {
  ClearBar();
  std::fflush(options_.out);
  terminal_ = false;
}

void Progress::ClearBar() {
  if (bar_shown_) std::fputs(kClearLine, options_.out);
  bar_shown_ = false;
}

void Progress::DrawBar() {
  if (!terminal_) return;
  const int columns = options_.columns ? *options_.columns : ColumnsOf(options_.out);
  // One column is left free: a terminal may wrap a line that fills the last.
  const std::string bar = ProgressBar(step_, options_.total_steps, EtaSeconds(step_), columns - 1);
  std::fputs(("\r" + bar + "\x1b[K").c_str(), options_.out);
  std::fflush(options_.out);
  bar_shown_ = true;
  drawn_ = Clock::now();
}

}  // namespace entrain
