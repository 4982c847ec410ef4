#include "launcher/start_banner.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/progress.h"

namespace entrain {
namespace {

std::string Row(const char* name, const std::string& text) {
  return absl::StrFormat("%-13s%s\n", name, text);
}

std::string Architecture(const ModelConfig& m) {
  return absl::StrFormat("%s, %d layers, %d heads, width %d, context %d, vocabulary %d",
                         m.architecture, m.layers, m.heads, m.width, m.context, m.vocab);
}

std::string Regularizer(const ModelConfig& m) {
  if (!m.entropy_regularizer) return "off";
  const EntropyRegularizerConfig& r = *m.entropy_regularizer;
  return absl::StrFormat("%s, strength %g, margin %g, max_entropy %s, statistics %s",
                         std::string(kGranularityNames.Name(r.granularity)), r.strength, r.margin,
                         std::string(kMaxEntropyNames.Name(r.max_entropy)),
                         std::string(kStatisticsNames.Name(r.statistics)));
}

std::string Data(const std::string& path, const TokenDataset& data) {
  return absl::StrFormat("%s: %s tokens, %s sequences in %d %s", path,
                         HumanCount(static_cast<double>(data.num_tokens())),
                         HumanCount(static_cast<double>(data.num_sequences())), data.num_files(),
                         data.num_files() == 1 ? "file" : "files");
}

std::string Memory(const MemoryPlan& m, int64_t available) {
  constexpr double kMegabyte = 1e6;
  std::string text = absl::StrFormat(
      "%.0f MB: parameters and gradients %.0f, optimizer %.0f, activations %.0f, program %.0f",
      static_cast<double>(m.total()) / kMegabyte,
      static_cast<double>(m.parameters + m.factors) / kMegabyte,
      static_cast<double>(m.optimizer) / kMegabyte, static_cast<double>(m.activations) / kMegabyte,
      static_cast<double>(m.program) / kMegabyte);
  if (m.scratch > 0) {
    absl::StrAppendFormat(&text, ", ops %.0f", static_cast<double>(m.scratch) / kMegabyte);
  }
  if (m.attention > 0) {
    absl::StrAppendFormat(&text, ", attention's workspace %.0f",
                          static_cast<double>(m.attention) / kMegabyte);
  }
  if (m.snapshot > 0) {
    absl::StrAppendFormat(&text, ", copy for background saves %.0f",
                          static_cast<double>(m.snapshot) / kMegabyte);
  }
  if (available >= 0) {
    absl::StrAppendFormat(&text, " (free: %.0f MB)", static_cast<double>(available) / kMegabyte);
  }
  return text;
}

std::string World(const BannerFacts& facts) {
  return absl::StrFormat("%d %s = dp %d x tp %d, from %s, communication %s", facts.mesh.world(),
                         facts.mesh.world() == 1 ? "rank" : "ranks", facts.mesh.dp, facts.mesh.tp,
                         facts.launcher, facts.backend);
}

// How GPUs exchange what they hold: one line, where there are any.
std::string Collectives(const DeviceCollectives& collectives) {
  std::string text = collectives.backend;
  if (!collectives.why.empty()) absl::StrAppend(&text, ": ", collectives.why);
  if (!collectives.settings.empty()) absl::StrAppend(&text, "; ", collectives.settings);
  return text;
}

std::string Communication(const BannerFacts& facts) {
  constexpr double kMegabyte = 1e6;
  const ParallelSection& p = facts.config.parallel;
  std::string text =
      absl::StrFormat("a rank sends %.1f MB a step over dp, %.1f MB over tp",
                      facts.communication.dp / kMegabyte, facts.communication.tp / kMegabyte);
  if (p.sequence_parallel) text += "; sequence parallel";
  if (p.zero > 0) absl::StrAppend(&text, "; ZeRO stage ", p.zero);
  if (p.reduce_precision == Precision::kBf16) text += "; gradients in bf16";
  return text;
}

// What of the largest tensors a rank holds.
std::string Shards(const ModelConfig& m, int tp) {
  const VocabShard vocab = VocabShard::Of(m.vocab, {0, tp});
  std::string text = absl::StrFormat("%d of %d heads, %d rows of the vocabulary", m.heads / tp,
                                     m.heads, vocab.padded);
  return m.ffn == Ffn::kFused
             ? text
             : absl::StrFormat("%s, FFN width %d of %d", text, m.ffn_width() / tp, m.ffn_width());
}

std::string Steps(const TrainConfig& config, int dp) {
  const int64_t tokens = config.train.global_batch * config.model.context;
  return absl::StrFormat(
      "%d steps of %d sequences = %s tokens (%d micro-steps of %d), %s tokens in all",
      config.train.steps, config.train.global_batch, HumanCount(static_cast<double>(tokens)),
      config.accumulation(dp), config.micro_batch(dp),
      HumanCount(static_cast<double>(tokens * config.train.steps)));
}

}  // namespace

std::string StartBanner(const BannerFacts& facts) {
  const TrainConfig& config = facts.config;
  std::string text = Row("entrain", ENTRAIN_VERSION);
  text += Row("model", Architecture(config.model));
  text += Row("parameters", HumanCount(static_cast<double>(facts.model.params().num_elements())));
  text += Row("regularizer", Regularizer(config.model));
  if (facts.mesh.world() > 1) text += Row("world", World(facts));
  if (facts.mesh.tp > 1) text += Row("shards", Shards(config.model, facts.mesh.tp));
  if (facts.mesh.world() > 1) text += Row("network", Communication(facts));
  text += Row("device", facts.device);
  if (facts.collectives.over && facts.mesh.world() > 1) {
    text += Row("collectives", Collectives(facts.collectives));
  }
  if (facts.graph.used) text += Row("step", "one CUDA graph from the third on");
  if (!facts.graph.why_not.empty()) text += Row("step", "no CUDA graph: " + facts.graph.why_not);
  if (!facts.attention.empty()) text += Row("attention", facts.attention);
  if (!facts.tuning.empty()) text += Row("tuning", facts.tuning);
  text += Row("threads", facts.threads.text);
  text +=
      Row("precision", absl::StrCat(std::string(kPrecisionNames.Name(config.train.precision)),
                                    config.train.logits == Precision::kBf16 ? ", logits too" : "",
                                    config.train.tf32 ? ", products in TF32" : "",
                                    config.train.recompute ? ", activations recomputed" : ""));
  text += Row("data", Data(config.data.train, facts.train_data));
  if (facts.validation_data != nullptr) {
    text += Row("validation", Data(config.data.validation, *facts.validation_data));
  }
  text += Row("training", Steps(config, facts.mesh.dp));
  text += Row("memory", Memory(facts.memory, facts.available_memory));
  text += Row("output", config.run.dir);
  text += Row("start", !facts.resumed_from.empty() ? "resuming " + facts.resumed_from
                       : config.init_from.empty()  ? absl::StrCat("fresh, seed ", config.train.seed)
                                                   : "weights of " + config.init_from);
  for (const std::string& note : facts.threads.notes) text += Row("note", note);
  for (const std::string& notice : facts.notices) text += Row("note", notice);
  return text + "\n";
}

}  // namespace entrain
