#include "launcher/model_files.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "launcher/hf_config.h"
#include "runtime/base/nearest_name.h"
#include "runtime/io/safetensors.h"
#include "runtime/kernels/attention.h"
#include "runtime/tensor/tensor_copy.h"

namespace entrain {
namespace {

constexpr char kConfigName[] = "config.json";
constexpr char kWeightsName[] = "model.safetensors";
constexpr char kPrefix[] = "transformer.";

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

int64_t SizeOfShape(const std::vector<int64_t>& shape) {
  int64_t size = 1;
  for (const int64_t dim : shape) size *= dim;
  return size;
}

// Biases that the architecture switches off but the file format always holds.
std::map<std::string, int64_t> SwitchedOffBiases(const Model& model) {
  const ModelConfig& config = model.config();
  std::map<std::string, int64_t> biases;
  auto add = [&](const std::string& name, int64_t size) {
    if (!model.params().Find(name).valid()) biases[name] = size;
  };
  for (int64_t l = 0; l < config.layers; ++l) {
    const std::string layer = absl::StrCat("transformer.h.", l);
    add(layer + ".attn.c_attn.bias", 3 * config.width);
    add(layer + ".attn.c_proj.bias", config.width);
    if (!config.layer_has_ffn(l)) continue;
    if (config.ffn == Ffn::kFused) {
      add(layer + ".mlp.c_fused.bias", config.width);
    } else {
      add(layer + ".mlp.c_fc.bias", config.ffn_width());
      add(layer + ".mlp.c_proj.bias", config.width);
    }
  }
  return biases;
}

// The factored matrix whose effective form a parameter belongs to; null for plain parameters.
template <typename WeightPointer>
WeightPointer FactoredOwner(const std::vector<WeightPointer>& weights, const std::string& name) {
  for (WeightPointer weight : weights) {
    if (name == weight->name() || name == weight->name() + "_v" || name == weight->name() + "_g") {
      return weight;
    }
  }
  return nullptr;
}

// ---- reading ----

// IEEE 754 binary16: 1 sign, 5 exponent (bias 15) and 10 fraction bits.
float HalfToFloat(uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const int fraction = bits & 0x3ff;
  const float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
  if (exponent == 0x1f) return fraction == 0 ? sign * INFINITY : NAN;
  const int implicit = exponent == 0 ? 0 : 0x400;
  return sign * std::ldexp(static_cast<float>(implicit + fraction), std::max(exponent, 1) - 25);
}

// A tensor of the file as f32.
absl::StatusOr<std::vector<float>> Floats(const std::string& path, const TensorEntry& entry) {
  std::vector<float> values(static_cast<size_t>(SizeOfShape(entry.shape)));
  if (entry.dtype == "F32") {
    std::memcpy(values.data(), entry.data.data(), values.size() * sizeof(float));
    return values;
  }
  if (entry.dtype != "BF16" && entry.dtype != "F16") {
    return absl::InvalidArgumentError(absl::StrCat(path, ": tensor ", entry.name, " is ",
                                                   entry.dtype, "; F32, BF16 and F16 can be read"));
  }
  const bool bf16 = entry.dtype == "BF16";
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, entry.data.data() + 2 * i, sizeof(bits));
    Bf16 number;
    number.bits = bits;
    values[i] = bf16 ? static_cast<float>(number) : HalfToFloat(bits);
  }
  return values;
}

class WeightReader {
 public:
  WeightReader(const SafetensorsFile& file, Context& context, Model& model)
      : file_(file),
        context_(context),
        model_(model),
        factored_(model.transformer().factored_weights()) {}

  absl::Status Read() {
    for (int i = 0; i < model_.params().size(); ++i) RETURN_IF_ERROR(ReadParameter({i}));
    for (const auto& [name, size] : SwitchedOffBiases(model_)) {
      RETURN_IF_ERROR(RequireZero(name, {size}, 0, size));
    }
    RETURN_IF_ERROR(CheckPartialBiases());
    return RefuseUnknown();
  }

 private:
  const TensorEntry* Find(const std::string& name) {
    const TensorEntry* entry = file_.Find(name);
    if (entry == nullptr) entry = file_.Find(std::string(absl::StripPrefix(name, kPrefix)));
    if (entry != nullptr) used_.insert(entry->name);
    return entry;
  }

  absl::Status CheckShape(const TensorEntry& entry, const std::vector<int64_t>& shape) const {
    if (entry.shape == shape) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(file_.path(), ": tensor ", entry.name, " has shape ", ShapeText(entry.shape),
                     "; the architecture in ", kConfigName, " beside it needs ", ShapeText(shape)));
  }

  absl::Status ReadParameter(ParamId id) {
    const ParameterSpec& spec = model_.params().spec(id);
    if (const TensorEntry* entry = Find(spec.name)) return Fill(id, *entry);
    if (Weight* owner = FactoredOwner(factored_, spec.name)) {
      return ReadEffective(*owner, id);
    }
    if (spec.name.find("entropy_threshold") != std::string::npos) return absl::OkStatus();
    return absl::NotFoundError(absl::StrCat(file_.path(), ": tensor ", spec.name,
                                            " is missing; the architecture in ", kConfigName,
                                            " beside it needs it"));
  }

  absl::Status Fill(ParamId id, const TensorEntry& entry) {
    ASSIGN_OR_RETURN(const std::vector<float> values, ShardOf(id, entry));
    if (std::isfinite(model_.params().spec(id).minimum)) {
      RETURN_IF_ERROR(CheckTemperatures(entry.name, values));
    }
    model_.params().SetValue(context_, id, values.data());
    return absl::OkStatus();
  }

  // They divide.
  absl::Status CheckTemperatures(const std::string& name, const std::vector<float>& values) const {
    const auto bad = std::find_if(values.begin(), values.end(), [](float value) {
      return !(value >= static_cast<float>(kLeastTemperature) && std::isfinite(value));
    });
    if (bad == values.end()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        file_.path(), ": ", name, " has a temperature of ", *bad,
        "; they must be finite and at least ", kLeastTemperature, ": export the model again"));
  }

  // What this rank holds of a parameter, from the whole tensor in the file.
  absl::StatusOr<std::vector<float>> ShardOf(ParamId id, const TensorEntry& entry) {
    const ShardSpec& shard = model_.params().spec(id).shard;
    RETURN_IF_ERROR(CheckShape(entry, shard.shape));
    ASSIGN_OR_RETURN(std::vector<float> whole, Floats(file_.path(), entry));
    if (!shard.is_cut()) return whole;
    std::vector<float> values(static_cast<size_t>(shard.elements()));
    shard.ForEachRun([&](int64_t local, int64_t begin, int64_t count) {
      std::copy_n(whole.data() + begin, count, values.data() + local);
    });
    return values;
  }

  // `<name>_v` is declared before `<name>_g`: the effective matrix sets both when v's turn comes.
  absl::Status ReadEffective(Weight& weight, ParamId id) {
    const TensorEntry* entry = Find(weight.name());
    if (entry == nullptr) {
      return absl::NotFoundError(absl::StrCat(file_.path(), ": neither ", weight.name(), " nor ",
                                              model_.params().spec(id).name, " is there"));
    }
    if (model_.params().spec(id).name == weight.name() + "_g") return absl::OkStatus();
    ASSIGN_OR_RETURN(const std::vector<float> values, ShardOf(id, *entry));
    weight.SetEffective(context_, model_.params(), values.data());
    return absl::OkStatus();
  }

  absl::Status RequireZero(const std::string& name, const std::vector<int64_t>& shape,
                           int64_t begin, int64_t end) {
    const TensorEntry* entry = Find(name);
    if (entry == nullptr) return absl::OkStatus();
    RETURN_IF_ERROR(CheckShape(*entry, shape));
    ASSIGN_OR_RETURN(const std::vector<float> values, Floats(file_.path(), *entry));
    for (int64_t i = begin; i < end; ++i) {
      if (values[static_cast<size_t>(i)] == 0.0F) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          file_.path(), ": ", name, "[", i, "] = ", values[static_cast<size_t>(i)],
          ", but the architecture switches this bias off (qk_bias, vo_bias, ffn_bias in ",
          kConfigName, "): it must be zero"));
    }
    return absl::OkStatus();
  }

  // c_attn's bias exists when either of its halves is trained; the other must be zero.
  absl::Status CheckPartialBiases() {
    const ModelConfig& config = model_.config();
    if (config.qk_bias == config.vo_bias) return absl::OkStatus();
    const int64_t qk = 2 * config.width;
    const int64_t all = 3 * config.width;
    for (int64_t l = 0; l < config.layers; ++l) {
      RETURN_IF_ERROR(RequireZero(absl::StrCat("transformer.h.", l, ".attn.c_attn.bias"), {all},
                                  config.qk_bias ? qk : 0, config.qk_bias ? all : qk));
    }
    return absl::OkStatus();
  }

  // Buffers that old GPT-2 files carry (causal masks) and a tied head's second copy hold nothing new.
  static bool Harmless(const std::string& name, bool tied) {
    auto ends_with = [&](const std::string& end) {
      return name.size() >= end.size() &&
             name.compare(name.size() - end.size(), end.size(), end) == 0;
    };
    return ends_with(".attn.bias") || ends_with(".attn.masked_bias") ||
           (tied && name == "lm_head.weight");
  }

  absl::Status RefuseUnknown() const {
    for (const TensorEntry& entry : file_.tensors()) {
      const bool known =
          used_.contains(entry.name) || Harmless(entry.name, model_.config().tie_word_embeddings);
      if (known) continue;
      std::vector<std::string> names;
      names.reserve(static_cast<size_t>(model_.params().size()));
      for (int i = 0; i < model_.params().size(); ++i) {
        names.push_back(model_.params().spec({i}).name);
      }
      return absl::InvalidArgumentError(absl::StrCat(
          file_.path(), ": tensor ", entry.name, " has no place in this architecture (see ",
          kConfigName, " beside it)", DidYouMean(entry.name, names)));
    }
    return absl::OkStatus();
  }

  const SafetensorsFile& file_;
  Context& context_;
  Model& model_;
  std::vector<Weight*> factored_;
  std::set<std::string> used_;
};

// ---- writing ----

// Appends `size` floats, converted.
absl::Status AppendFloats(const std::function<absl::Status(const void*, int64_t)>& append,
                          const float* values, int64_t size, DType dtype) {
  if (dtype == DType::kF32) return append(values, size * SizeOf(dtype));
  std::vector<Bf16> converted(values, values + size);
  return append(converted.data(), size * SizeOf(dtype));
}

class TensorList {
 public:
  TensorList(Context& context, const Model& model, const ExportOptions& options)
      : context_(context),
        model_(model),
        dtype_(options.dtype),
        raw_factors_(options.raw_factors),
        factored_(model.transformer().factored_weights()) {}

  std::vector<TensorToWrite> Tensors() {
    for (int i = 0; i < model_.params().size(); ++i) AddParameter({i});
    for (const auto& [name, size] : SwitchedOffBiases(model_)) AddZeros(name, size);
    return std::move(tensors_);
  }

 private:
  using Append = std::function<absl::Status(const void*, int64_t)>;

  void Add(const std::string& name, const std::vector<int64_t>& shape,
           std::function<absl::Status(const Append&)> write) {
    tensors_.push_back({name, dtype_ == DType::kF32 ? "F32" : "BF16", shape, std::move(write)});
  }

  void AddParameter(ParamId id) {
    const ParameterSpec& spec = model_.params().spec(id);
    const Weight* owner = FactoredOwner(factored_, spec.name);
    if (owner != nullptr && !(raw_factors_ && owner->norm() == WeightNorm::kWeight)) {
      if (spec.name != owner->name() + "_g") AddEffective(*owner, spec.shape);
      return;
    }
    Add(spec.name, spec.shape, [this, id, size = SizeOfShape(spec.shape)](const Append& append) {
      // With its padded rows, which are left out.
      const std::vector<float> values = ToHost<float>(context_, model_.params().value(id));
      return AppendFloats(append, values.data(), size, dtype_);
    });
  }

  void AddEffective(const Weight& weight, const std::vector<int64_t>& shape) {
    Add(weight.name(), shape, [this, &weight, shape](const Append& append) {
      const Buffer memory(context_.device(), SizeOfShape(shape) * SizeOf(DType::kF32));
      const TensorView effective(memory.data(), DType::kF32, {shape[0], shape[1]});
      weight.CopyEffective(context_, model_.params(), effective);
      const std::vector<float> matrix = ToHost<float>(context_, effective);
      return AppendFloats(append, matrix.data(), static_cast<int64_t>(matrix.size()), dtype_);
    });
  }

  void AddZeros(const std::string& name, int64_t size) {
    Add(name, {size}, [this, size](const Append& append) {
      const std::vector<float> zeros(static_cast<size_t>(size));
      return AppendFloats(append, zeros.data(), size, dtype_);
    });
  }

  Context& context_;
  const Model& model_;
  DType dtype_;
  bool raw_factors_;
  std::vector<const Weight*> factored_;
  std::vector<TensorToWrite> tensors_;
};

}  // namespace

absl::StatusOr<ModelConfig> ReadModelFolderConfig(FileSystem& fs, const std::string& folder) {
  const std::string path = JoinPath(folder, kConfigName);
  ASSIGN_OR_RETURN(const std::string json, fs.ReadText(path));
  return ParseHfConfig(json, path);
}

namespace {

absl::Status ReadWeights(FileSystem& fs, const std::string& folder, Context& context,
                         Model& model) {
  const absl::StatusOr<SafetensorsFile> file =
      SafetensorsFile::Open(fs, JoinPath(folder, kWeightsName));
  // A damaged model is bad input: unlike a damaged checkpoint it has no older one to fall back to.
  if (absl::IsDataLoss(file.status())) return absl::InvalidArgumentError(file.status().message());
  RETURN_IF_ERROR(file.status());
  return WeightReader(*file, context, model).Read();
}

}  // namespace

absl::Status ReadModelFolderWeights(FileSystem& fs, const std::string& folder, Context& context,
                                    uint64_t seed, Model& model, const AgreeOnStatus& agree) {
  // What the file need not hold starts fresh: thresholds, u of a spectral norm.
  model.transformer().Initialize(context, seed);
  absl::Status read = ReadWeights(fs, folder, context, model);
  if (agree) read = agree(read);
  RETURN_IF_ERROR(read);
  model.transformer().SettleFactors(context);
  model.params().RefreshCompute(context);
  return absl::OkStatus();
}

absl::Status WriteModelFolder(FileSystem& fs, const std::string& folder, Context& context,
                              const Model& model, const ExportOptions& options) {
  RETURN_IF_ERROR(fs.MakeDirectories(folder));
  const std::string path = JoinPath(folder, kWeightsName);
  const std::string temporary = path + ".tmp";
  TensorList list(context, model, options);
  ASSIGN_OR_RETURN(const WrittenFile written,
                   WriteSafetensors(fs, temporary, list.Tensors(), {{"format", "pt"}}));
  static_cast<void>(written);
  RETURN_IF_ERROR(fs.Rename(temporary, path));
  return WriteTextAtomically(fs, JoinPath(folder, kConfigName), ToHfConfig(model.config()));
}

}  // namespace entrain
