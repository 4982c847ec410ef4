#include "launcher/train_config_keys.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "model/model_keys.h"

namespace entrain {
namespace {

using Keys = std::vector<TrainConfigKey>;

constexpr IntegerRange kFromOne{.min = 1};
constexpr IntegerRange kBatch{.min = 1, .max = 1 << 30};
constexpr NumberRange kBelowOne{.min = 0, .max = 1, .max_excluded = true};
constexpr NumberRange kPositive{.min = 0, .min_excluded = true};
constexpr const char* kCustom = "custom";

ConfigKey<TrainConfig> ArchitectureKey() {
  std::vector<std::string> names = PresetNames();
  names.emplace_back(kCustom);
  ConfigKey<TrainConfig> key;
  key.name = "architecture";
  key.meaning = "preset that the keys below override; custom: GPT-2's values";
  key.allowed = "one of " + absl::StrJoin(names, ", ") + " (k: a number of layers, as in ereg-i6)";
  key.choices = std::move(names);
  key.takes_text = true;
  key.get = [](const TrainConfig& config) -> ConfigValue { return config.model.architecture; };
  key.set = [](const ConfigValue& value, TrainConfig* config) {
    const auto* name = std::get_if<std::string>(&value);
    if (name == nullptr) return false;
    absl::StatusOr<ModelConfig> model = ModelConfig{};
    if (*name != kCustom) model = PresetArchitecture(*name);
    if (!model.ok()) return false;
    config->model = *std::move(model);
    return true;
  };
  return key;
}

ConfigKey<TrainConfig> InitFromKey() {
  return StringKey("init_from", &TrainConfig::init_from,
                   "Hugging Face folder to start from; \"\": random weights");
}

ConfigKey<TrainConfig> RegularizerSwitch() {
  ConfigKey<TrainConfig> key;
  key.name = kRegularizerKey;
  key.meaning = "removes a preset's regulariser, or true: adds one";
  key.allowed = "\"none\", true, false or a table [model.entropy_regularizer]";
  key.choices = {"none"};
  key.get = [](const TrainConfig& config) -> ConfigValue {
    if (config.model.entropy_regularizer) return true;
    return std::string("none");
  };
  key.set = [](const ConfigValue& value, TrainConfig* config) {
    std::optional<EntropyRegularizerConfig>& regularizer = config->model.entropy_regularizer;
    if (value == ConfigValue(true)) {
      if (!regularizer) regularizer.emplace();
      return true;
    }
    if (value != ConfigValue(false) && value != ConfigValue(std::string("none"))) return false;
    regularizer.reset();
    return true;
  };
  return key;
}

ConfigKey<TrainConfig> OfModel(const ConfigKey<ModelConfig>& key) {
  return KeyOfPart<TrainConfig>(
      key, [](const TrainConfig& config) -> const ModelConfig& { return config.model; },
      [](TrainConfig* config) { return &config->model; });
}

// Reading the keys of a regulariser that is not there gives the defaults; writing one makes it.
ConfigKey<TrainConfig> OfRegularizer(const ConfigKey<EntropyRegularizerConfig>& key) {
  return KeyOfPart<TrainConfig>(
      key,
      [](const TrainConfig& config) {
        return config.model.entropy_regularizer.value_or(EntropyRegularizerConfig{});
      },
      [](TrainConfig* config) {
        std::optional<EntropyRegularizerConfig>& regularizer = config->model.entropy_regularizer;
        return regularizer ? &*regularizer : &regularizer.emplace();
      });
}

// The keys of one section struct, as keys of the whole.
template <typename Section>
class SectionKeys {
 public:
  SectionKeys(std::string name, Section TrainConfig::*section, Keys* keys)
      : name_(std::move(name)), section_(section), keys_(keys) {}

  SectionKeys& Add(const ConfigKey<Section>& key) {
    auto read = [section = section_](const TrainConfig& config) -> const Section& {
      return config.*section;
    };
    auto write = [section = section_](TrainConfig* config) { return &(config->*section); };
    keys_->push_back({name_, KeyOfPart<TrainConfig>(key, read, write)});
    return *this;
  }

  // A path that the file must give.
  SectionKeys& AddRequired(const ConfigKey<Section>& key) {
    Add(key);
    TrainConfigKey& added = keys_->back();
    added.required = true;
    added.key.allowed = "a string that is not empty";
    added.key.set = [set = added.key.set](const ConfigValue& value, TrainConfig* config) {
      return value != ConfigValue(std::string()) && set(value, config);
    };
    return *this;
  }

 private:
  std::string name_;
  Section TrainConfig::*section_;
  Keys* keys_;
};

void AddModelKeys(Keys* keys) {
  const std::string section(kModelSection);
  keys->push_back({.section = section,
                   .key = ArchitectureKey(),
                   .fixed_by_weights = true,
                   .comes_first = true});
  for (const ModelKey<ModelConfig>& key : ModelKeys()) {
    keys->push_back(
        {.section = section, .key = OfModel(key.key), .fixed_by_weights = key.fixed_by_weights});
  }
  keys->push_back({.section = section, .key = InitFromKey(), .comes_first = true});
  keys->push_back({.section = section, .key = RegularizerSwitch()});
  for (const ModelKey<EntropyRegularizerConfig>& key : RegularizerKeys()) {
    keys->push_back({std::string(kRegularizerSection), OfRegularizer(key.key)});
  }
}

void AddRunKeys(Keys* keys) {
  SectionKeys("run", &TrainConfig::run, keys)
      .AddRequired(StringKey("dir", &RunSection::dir,
                             "folder of the run: checkpoints, metrics.jsonl, verdict.json"))
      .Add(NumberKey("exit_after_minutes", &RunSection::exit_after_minutes, {},
                     "save and leave (exit code 75) so long after the start; 0: never"))
      .Add(NumberKey("exit_margin_seconds", &RunSection::exit_margin_seconds, {},
                     "in a Slurm job, leave so long before its end, and two steps and saves more"))
      .Add(NumberKey("startup_timeout_minutes", &RunSection::startup_timeout_minutes, {},
                     "the watchdog ends a rank whose start takes longer; 0: never"))
      .Add(NumberKey("step_timeout_minutes", &RunSection::step_timeout_minutes, {},
                     "the same of a step and the validation after it"))
      .Add(NumberKey("save_timeout_minutes", &RunSection::save_timeout_minutes, {},
                     "the same of a checkpoint"));
}

void AddDataKeys(Keys* keys) {
  using D = DataSection;
  SectionKeys("data", &TrainConfig::data, keys)
      .AddRequired(StringKey("train", &D::train, "token files: a file, a glob or a folder"))
      .Add(StringKey("validation", &D::validation, "the same, held out; \"\": none"))
      .Add(StringKey("tokenizer", &D::tokenizer,
                     "gpt2, byte or the path of a merges.txt; \"\": none of these"))
      .Add(EnumKey("format", &D::format, kTokenFormatNames, "format of the token files"))
      .Add(BooleanKey("shuffle", &D::shuffle, "sequences in random order, each epoch anew"));
}

void AddTrainKeys(Keys* keys) {
  using T = TrainSection;
  SectionKeys("train", &TrainConfig::train, keys)
      .Add(IntegerKey("steps", &T::steps, kFromOne, "optimizer steps"))
      .Add(IntegerKey("global_batch", &T::global_batch, kBatch, "sequences an optimizer step"))
      .Add(IntegerKey("micro_batch", &T::micro_batch, {.max = kBatch.max},
                      "sequences a rank and micro-step; 0: all of the rank's"))
      .Add(IntegerKey("seed", &T::seed, {}, "of the weights and of the data's order"))
      .Add(EnumKey("precision", &T::precision, kPrecisionNames, "of activations and products"))
      .Add(EnumKey("logits", &T::logits, kPrecisionNames,
                   "of the logits between a step's last product and its loss; bf16: less memory "
                   "traffic, less exact"))
      .Add(EnumKey("device", &T::device, kDeviceChoiceNames,
                   "auto: a GPU when one is usable, else the CPU"))
      .Add(IntegerKey("threads", &T::threads, {.max = 1024},
                      "0: the cores a rank may use, shared with the ranks of its host"))
      .Add(BooleanKey("tf32", &T::tf32,
                      "fp32 products of a GPU with factors of 10 bits: faster, less exact"))
      .Add(BooleanKey("recompute", &T::recompute, "recompute a block's activations: less memory"))
      .Add(EnumKey("cuda_graph", &T::cuda_graph, kOnOffNames,
                   "a GPU's step as one launch; auto: where the host need not look within it"))
      .Add(EnumKey("attention", &T::attention, kAttentionChoiceNames,
                   "whose backward of attention on a GPU; auto: entrain's, less a table of "
                   "measurements says that cudnn's is faster"))
      .Add(BooleanKey("tune", &T::tune,
                      "measure kernels on the GPU before the first step, write tuning.txt"))
      .Add(StringKey("tuning", &T::tuning, "the tuning.txt of another run; \"\": none"))
      .Add(IntegerKey("max_bad_steps", &T::max_bad_steps, kFromOne,
                      "stop after so many non-finite steps in a row"));
}

void AddOptimizerKeys(Keys* keys) {
  using O = OptimizerSection;
  SectionKeys("optimizer", &TrainConfig::optimizer, keys)
      .Add(NumberKey("lr", &O::lr, {}, "highest learning rate"))
      .Add(NumberKey("beta1", &O::beta1, kBelowOne, "decay of the first moment"))
      .Add(NumberKey("beta2", &O::beta2, kBelowOne, "decay of the second moment"))
      .Add(NumberKey("eps", &O::eps, kPositive, "added to the root of the second moment"))
      .Add(NumberKey("weight_decay", &O::weight_decay, {}, "decoupled, on matrices only"))
      .Add(NumberKey("clip", &O::clip, {}, "largest global gradient norm; 0: off"))
      .Add(EnumKey("schedule", &O::schedule, kScheduleNames, "of the learning rate after warm-up"))
      .Add(IntegerKey("warmup_steps", &O::warmup_steps, {}, "linear rise from 0 to lr"))
      .Add(NumberKey("min_lr", &O::min_lr, {}, "where linear and cosine end"));
}

void AddIntervalKeys(Keys* keys) {
  SectionKeys("checkpoint", &TrainConfig::checkpoint, keys)
      .Add(IntegerKey("every", &CheckpointSection::every, {},
                      "steps between checkpoints; 0: at the end and on a signal only"))
      .Add(IntegerKey("keep", &CheckpointSection::keep, {.min = 2}, "newest checkpoints kept"))
      .Add(IntegerKey("keep_every", &CheckpointSection::keep_every, {},
                      "also keep each multiple of it; 0: none"))
      .Add(BooleanKey("background", &CheckpointSection::background,
                      "write from a copy while training goes on: takes the copy's memory"));
  SectionKeys("validation", &TrainConfig::validation, keys)
      .Add(IntegerKey("every", &ValidationSection::every, {}, "steps between passes; 0: never"))
      .Add(IntegerKey("batches", &ValidationSection::batches, {},
                      "micro-batches a rank and pass; 0: the whole set"));
  using P = ParallelSection;
  SectionKeys("parallel", &TrainConfig::parallel, keys)
      .Add(IntegerKey("dp", &P::dp, {.max = 1 << 20}, "data-parallel ranks; 0: ranks / tp"))
      .Add(IntegerKey("tp", &P::tp, {.min = 1, .max = 1 << 20}, "tensor-parallel ranks"))
      .Add(BooleanKey("sequence_parallel", &P::sequence_parallel,
                      "cut the residual stream over tp by rows"))
      .Add(IntegerKey("zero", &P::zero, {.max = 1}, "1: optimizer state is sharded over dp"))
      .Add(EnumKey("reduce_precision", &P::reduce_precision, kPrecisionNames,
                   "of gradients between ranks; sums are fp32"))
      .Add(NumberKey("bucket_mb", &P::bucket_mb, {.min = 0, .max = 1e6, .min_excluded = true},
                     "gradients reduced at a time, in units of 1e6 bytes; more where that makes "
                     "over 500 buckets"))
      .Add(EnumKey("backend", &P::backend, kCommBackendNames,
                   "between GPUs; auto: nccl where every rank has it and a GPU of its own; mpi: "
                   "through host memory"))
      .Add(NumberKey("peer_timeout_seconds", &P::peer_timeout_seconds, {},
                     "a rank whose process is silent for so long is taken for lost; 0: never, else "
                     ">= 3"))
      .Add(NumberKey("wait_timeout_seconds", &P::wait_timeout_seconds, {},
                     "a rank waits so long for one that lives but sends nothing; 0: for ever"));
  SectionKeys("logging", &TrainConfig::logging, keys)
      .Add(IntegerKey("every", &LoggingSection::every, kFromOne, "steps between logged steps"));
}

}  // namespace

const Keys& TrainConfigKeys() {
  static const Keys all = [] {
    Keys keys;
    AddRunKeys(&keys);
    AddModelKeys(&keys);
    AddDataKeys(&keys);
    AddTrainKeys(&keys);
    AddOptimizerKeys(&keys);
    AddIntervalKeys(&keys);
    return keys;
  }();
  return all;
}

const std::vector<std::string>& ConfigSections() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> sections;
    for (const TrainConfigKey& key : TrainConfigKeys()) {
      if (sections.empty() || sections.back() != key.section) sections.push_back(key.section);
    }
    return sections;
  }();
  return all;
}

const TrainConfigKey* FindTrainConfigKey(std::string_view section, std::string_view name) {
  const Keys& keys = TrainConfigKeys();
  const auto found = std::find_if(keys.begin(), keys.end(), [&](const TrainConfigKey& key) {
    return key.section == section && key.key.name == name;
  });
  return found == keys.end() ? nullptr : &*found;
}

std::string KeyTitle(const TrainConfigKey& key) { return "[" + key.section + "] " + key.key.name; }

}  // namespace entrain
