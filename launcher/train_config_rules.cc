#include "launcher/train_config_rules.h"

#include "launcher/train_config_keys.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

// "key = value" as the configuration has it.
std::string Said(const TrainConfig& config, std::string_view section, std::string_view name) {
  const TrainConfigKey* key = FindTrainConfigKey(section, name);
  CHECK(key != nullptr) << section << "." << name;
  return key->key.name + " = " + ToText(key->key.get(config));
}

RuleViolation Violation(const TrainConfig& config, std::string section, std::string key,
                        const std::string& must) {
  std::string message = Said(config, section, key) + ": " + must;
  return {std::move(section), std::move(key), std::move(message)};
}

std::optional<RuleViolation> CheckRequired(const TrainConfig& config) {
  for (const TrainConfigKey& key : TrainConfigKeys()) {
    if (key.required && key.key.get(config) == ConfigValue(std::string())) {
      return RuleViolation{key.section, key.key.name,
                           key.key.name + ": must be given (" + key.key.meaning + ")"};
    }
  }
  return std::nullopt;
}

std::optional<RuleViolation> CheckModel(const TrainConfig& config) {
  const absl::Status status = config.model.Validate();
  if (status.ok()) return std::nullopt;
  const std::string message(status.message().data(), status.message().size());
  return RuleViolation{std::string(kModelSection), message.substr(0, message.find(" = ")), message};
}

std::optional<RuleViolation> CheckBatches(const TrainConfig& config) {
  if (config.train.micro_batch == 0 || config.train.global_batch % config.train.micro_batch == 0) {
    return std::nullopt;
  }
  return Violation(config, "train", "global_batch",
                   "must be a multiple of " + Said(config, "train", "micro_batch"));
}

std::optional<RuleViolation> CheckSchedule(const TrainConfig& config) {
  if (config.optimizer.min_lr > config.optimizer.lr) {
    return Violation(config, "optimizer", "min_lr",
                     "must be at most " + Said(config, "optimizer", "lr"));
  }
  return std::nullopt;
}

std::optional<RuleViolation> CheckValidation(const TrainConfig& config) {
  if (config.validation.every == 0 || !config.data.validation.empty()) return std::nullopt;
  return Violation(config, "validation", "every",
                   "needs the token files of [data] validation; give them, or set every = 0");
}

// What is cut over tp must divide. Rows divide or not by the number of ranks: see the start of a run.
std::optional<RuleViolation> CheckTensorParallel(const TrainConfig& config) {
  const ParallelSection& p = config.parallel;
  // The FFN's width, four times heads x head width, divides with them.
  if (config.model.heads % p.tp != 0) {
    return Violation(
        config, "parallel", "tp",
        "must divide " + Said(config, kModelSection, "heads") + ": heads stay whole on a rank");
  }
  if (p.sequence_parallel && p.tp == 1) {
    return Violation(config, "parallel", "sequence_parallel",
                     "it cuts rows over tp and needs tp > 1; set it to false");
  }
  return std::nullopt;
}

// What no GPU would change; the rest is asked of cuDNN when the run starts.
std::optional<RuleViolation> CheckAttention(const TrainConfig& config) {
  if (config.train.attention != AttentionChoice::kCudnn) return std::nullopt;
  std::string must;
  if (config.train.device == DeviceChoice::kCpu) {
    must = "needs a GPU; set " + Said(config, "train", "device") + " to \"cuda\"";
  } else if (config.train.precision != Precision::kBf16) {
    must = "needs bf16; set " + Said(config, "train", "precision") + " to \"bf16\"";
  } else if (config.model.temperature != Temperature::kNone) {
    must = "has no temperatures, and the model has " + Said(config, kModelSection, "temperature");
  }
  if (must.empty()) return std::nullopt;
  return Violation(config, "train", "attention", must + R"(; or take "entrain" or "auto")");
}

std::optional<RuleViolation> CheckLogits(const TrainConfig& config) {
  if (config.train.logits == Precision::kFp32 || config.train.precision == Precision::kBf16) {
    return std::nullopt;
  }
  return Violation(config, "train", "logits",
                   "are of bf16 products; set " + Said(config, "train", "precision") +
                       R"( to "bf16", or logits to "fp32")");
}

std::optional<RuleViolation> CheckTf32(const TrainConfig& config) {
  if (!config.train.tf32) return std::nullopt;
  if (config.train.device == DeviceChoice::kCpu) {
    return Violation(config, "train", "tf32",
                     "is of GPUs; set " + Said(config, "train", "device") + " to \"cuda\"");
  }
  if (config.train.precision == Precision::kFp32) return std::nullopt;
  return Violation(config, "train", "tf32",
                   "is of fp32 products; set " + Said(config, "train", "precision") +
                       " to \"fp32\", or tf32 to false");
}

std::optional<RuleViolation> CheckTuning(const TrainConfig& config) {
  if (!config.train.tune || config.train.tuning.empty()) return std::nullopt;
  return Violation(config, "train", "tuning",
                   "a run takes a table or measures one; give it, or set tune = true");
}

// Beats come once a second.
std::optional<RuleViolation> CheckTimeouts(const TrainConfig& config) {
  const double seconds = config.parallel.peer_timeout_seconds;
  if (seconds == 0.0 || seconds >= 3.0) return std::nullopt;
  return Violation(config, "parallel", "peer_timeout_seconds", "must be 0 (never) or at least 3");
}

}  // namespace

std::optional<RuleViolation> FindRuleViolation(const TrainConfig& config) {
  for (const auto check :
       {CheckRequired, CheckModel, CheckBatches, CheckSchedule, CheckValidation,
        CheckTensorParallel, CheckAttention, CheckLogits, CheckTf32, CheckTuning, CheckTimeouts}) {
    if (auto violation = check(config)) return violation;
  }
  return std::nullopt;
}

}  // namespace entrain
