#include "launcher/hf_config.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "model/model_keys.h"
#include "runtime/base/nearest_name.h"

namespace entrain {
namespace {

using Json = nlohmann::ordered_json;
using Place = ConfigJsonPlace;

constexpr const char* kEntrain = "entrain";
constexpr const char* kRegularizer = "entropy_regularizer";
constexpr double kLayerNormEpsilon = 1e-5;

absl::Status Refuse(const std::string& message) { return absl::InvalidArgumentError(message); }

absl::Status Refuse(const std::string& key, const Json& value, const std::string& must) {
  return Refuse(key + " = " + value.dump(-1, ' ', false, Json::error_handler_t::replace) + ": " +
                must);
}

ConfigValue ValueOf(const Json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<int64_t>();
  if (json.is_number_float()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  return UnsupportedValue{json.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

Json JsonOf(const ConfigValue& value) {
  Json json;
  if (const auto* flag = std::get_if<bool>(&value)) json = *flag;
  if (const auto* whole = std::get_if<int64_t>(&value)) json = *whole;
  if (const auto* real = std::get_if<double>(&value)) json = *real;
  if (const auto* text = std::get_if<std::string>(&value)) json = *text;
  return json;
}

template <typename Config>
const ModelKey<Config>* FindModelKey(const std::vector<ModelKey<Config>>& keys,
                                     const std::string& name) {
  const auto found = std::find_if(keys.begin(), keys.end(), [&](const ModelKey<Config>& key) {
    return key.place != Place::kGpt2 && key.key.name == name;
  });
  return found == keys.end() ? nullptr : &*found;
}

// --- reading
// ---------------------------------------------------------------------------------------------------------

// Sets `config` from the members of an object of ours: a key that is not in the table is an error.
template <typename Config>
absl::Status ReadMembers(const Json& object, const std::string& where,
                         const std::vector<ModelKey<Config>>& keys, Config* config) {
  std::vector<std::string> names;
  for (const ModelKey<Config>& key : keys) {
    if (key.place != Place::kGpt2) names.push_back(key.key.name);
  }
  for (const auto& [name, value] : object.items()) {
    const ModelKey<Config>* key = FindModelKey(keys, name);
    if (key == nullptr) {
      const std::string meant = DidYouMean(name, names);
      return Refuse(
          absl::StrCat("unknown key '", name, "' in ", where,
                       meant.empty() ? "; keys: " : meant + " Keys: ", absl::StrJoin(names, ", ")));
    }
    RETURN_IF_ERROR(SetKey(key->key, ValueOf(value), config));
  }
  return absl::OkStatus();
}

absl::Status ReadRegularizer(const Json& value, ModelConfig* config) {
  if (value.is_null()) {
    config->entropy_regularizer.reset();
    return absl::OkStatus();
  }
  if (!value.is_object()) return Refuse(kRegularizer, value, "must be null or an object");
  return ReadMembers(value, std::string("entrain.") + kRegularizer, RegularizerKeys(),
                     &config->entropy_regularizer.emplace());
}

absl::Status ReadEntrainObject(Json object, ModelConfig* config) {
  if (!object.is_object()) return Refuse(kEntrain, object, "must be an object");
  if (object.contains(kRegularizer)) {
    RETURN_IF_ERROR(ReadRegularizer(object[kRegularizer], config));
    object.erase(kRegularizer);
  }
  return ReadMembers(object, kEntrain, ModelKeys(), config);
}

// GPT-2's sizes; the default of one that is missing is that of transformers' GPT2Config.
absl::Status ReadGpt2Sizes(const Json& json, ModelConfig* config) {
  config->context = 1024;
  for (const ModelKey<ModelConfig>& key : ModelKeys()) {
    if (key.place != Place::kGpt2 || !json.contains(key.gpt2_name)) continue;
    if (!key.key.set(ValueOf(json[key.gpt2_name]), config)) {
      return Refuse(key.gpt2_name, json[key.gpt2_name], "must be " + key.key.allowed);
    }
  }
  return absl::OkStatus();
}

// A key of transformers that would change what is computed: refused at any value but the one that
// is computed here.
struct RequiredValue {
  const char* key;
  Json value;
};

absl::Status CheckFixedKeys(const Json& json, const ModelConfig& config) {
  const std::array<RequiredValue, 5> required{{{"n_inner", config.ffn_width()},
                                               {"layer_norm_epsilon", kLayerNormEpsilon},
                                               {"scale_attn_weights", true},
                                               {"scale_attn_by_inverse_layer_idx", false},
                                               {"add_cross_attention", false}}};
  for (const RequiredValue& rule : required) {
    const auto found = json.find(rule.key);
    if (found == json.end() || found->is_null() || *found == rule.value) continue;
    return Refuse(rule.key, *found, "must be " + rule.value.dump() + " or absent");
  }
  return absl::OkStatus();
}

bool IsTanhGelu(const std::string& activation) {
  return activation == "gelu_new" || activation == "gelu_pytorch_tanh";
}

// With an `entrain` object its `ffn` decides and the activation must not contradict it; a plain
// GPT-2 has only this key.
absl::Status ReadActivation(const Json& json, bool has_entrain, ModelConfig* config) {
  const Json value = json.value("activation_function", Json("gelu_new"));
  const std::string name = value.is_string() ? value.get<std::string>() : "";
  const bool relu = name == "relu" && (!has_entrain || config->ffn == Ffn::kRelu);
  if (!relu && !IsTanhGelu(name)) {
    const std::string ffn(kFfnNames.Name(config->ffn));
    return Refuse("activation_function", value,
                  has_entrain ? "does not fit entrain.ffn = \"" + ffn + "\"; must be " +
                                    (config->ffn == Ffn::kRelu ? "relu or " : "") + "gelu_new"
                              : "must be gelu_new, gelu_pytorch_tanh or relu");
  }
  if (relu) config->ffn = Ffn::kRelu;
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ReadModel(const Json& json) {
  if (!json.is_object()) return Refuse("must be a JSON object");
  const Json type = json.value("model_type", Json());
  if (type != "gpt2") return Refuse("model_type", type, "must be \"gpt2\"");
  ModelConfig config;
  RETURN_IF_ERROR(ReadGpt2Sizes(json, &config));
  const bool has_entrain = json.contains(kEntrain);
  if (has_entrain) RETURN_IF_ERROR(ReadEntrainObject(json[kEntrain], &config));
  RETURN_IF_ERROR(ReadActivation(json, has_entrain, &config));
  RETURN_IF_ERROR(CheckFixedKeys(json, config));
  RETURN_IF_ERROR(config.Validate());
  return config;
}

absl::StatusOr<Json> ParseJson(const std::string& text) {
  // Deeper than any key that is read. What lies below is left out: copying and writing out a value recurse.
  constexpr int kMaxDepth = 8;
  const auto keep = [](int depth, Json::parse_event_t, const Json&) { return depth <= kMaxDepth; };
  try {
    return Json::parse(text, keep);
  } catch (const Json::parse_error& error) {
    const std::string what = error.what();  // "[json.exception.parse_error.101] parse error at ..."
    return Refuse("not JSON: " + what.substr(std::min(what.size(), what.find("] ") + 2)));
  }
}

// --- the architecture's name
// -----------------------------------------------------------------------------------------

// What the weights fix, as text: two configurations with the same text are the same architecture at
// some size.
std::string ArchitectureText(const ModelConfig& config) {
  std::string text = config.entropy_regularizer ? "regularised" : "";
  for (const ModelKey<ModelConfig>& key : ModelKeys()) {
    if (key.place == Place::kGpt2 && key.key.name != "tie_word_embeddings") continue;
    if (key.fixed_by_weights) text.append(";").append(ToText(key.key.get(config)));
  }
  return text;
}

// config.json does not hold the preset's name; it is the preset with the same keys.
std::string ArchitectureName(const ModelConfig& config) {
  for (std::string name : PresetNames()) {
    if (name.ends_with("-ik")) {
      name = name.substr(0, name.size() - 1) + std::to_string(config.ffn_pruned);
    }
    const absl::StatusOr<ModelConfig> preset = PresetArchitecture(name);
    if (preset.ok() && ArchitectureText(*preset) == ArchitectureText(config)) return name;
  }
  return "custom";
}

// --- writing
// ---------------------------------------------------------------------------------------------------------

// Defaults of use: without them a reader would have to know ours.
bool IsOfUse(const ModelConfig& config, const std::string& name) {
  return (name == "rotary_pct" && config.position == Position::kRotary) ||
         (name == "weight_norm_axis" && config.ffn_weight_norm == WeightNorm::kWeight);
}

bool IsOfUse(const EntropyRegularizerConfig&, const std::string&) { return false; }

template <typename Config>
void WriteMembers(const std::vector<ModelKey<Config>>& keys, Place place, const Config& config,
                  Json* object) {
  for (const ModelKey<Config>& key : keys) {
    if (key.place != place) continue;
    const ConfigValue value = key.key.get(config);
    const bool written =
        place == Place::kEntrain || IsOfUse(config, key.key.name) || value != key.key.get(Config{});
    if (written) (*object)[key.key.name] = JsonOf(value);
  }
}

Json RegularizerJson(const ModelConfig& config) {
  if (!config.entropy_regularizer) return nullptr;
  Json object = Json::object();
  WriteMembers(RegularizerKeys(), Place::kEntrain, *config.entropy_regularizer, &object);
  WriteMembers(RegularizerKeys(), Place::kEntrainUnlessDefault, *config.entropy_regularizer,
               &object);
  return object;
}

Json EntrainObject(const ModelConfig& config) {
  Json object = Json::object();
  WriteMembers(ModelKeys(), Place::kEntrain, config, &object);
  object[kRegularizer] = RegularizerJson(config);
  WriteMembers(ModelKeys(), Place::kEntrainUnlessDefault, config, &object);
  return object;
}

}  // namespace

absl::StatusOr<ModelConfig> ParseHfConfig(const std::string& json, const std::string& path) {
  absl::StatusOr<Json> parsed = ParseJson(json);
  absl::StatusOr<ModelConfig> config =
      parsed.ok() ? ReadModel(*parsed) : absl::StatusOr<ModelConfig>(parsed.status());
  if (!config.ok()) {
    return Refuse(path + ": " +
                  std::string(config.status().message().data(), config.status().message().size()));
  }
  config->architecture = ArchitectureName(*config);
  return config;
}

std::string ToHfConfig(const ModelConfig& config) {
  Json json;
  json["model_type"] = "gpt2";
  for (const ModelKey<ModelConfig>& key : ModelKeys()) {
    if (key.place == Place::kGpt2) json[key.gpt2_name] = JsonOf(key.key.get(config));
  }
  json["n_inner"] = config.ffn_width();
  json["activation_function"] = config.ffn == Ffn::kRelu ? "relu" : "gelu_new";
  json["layer_norm_epsilon"] = kLayerNormEpsilon;
  json[kEntrain] = EntrainObject(config);
  return json.dump(2) + "\n";
}

}  // namespace entrain
