#include "model/non_finite.h"

#include <cmath>

#include "runtime/kernels/reduce.h"

namespace entrain {
namespace {

bool Finite(Context& context, const TensorView& x) {
  return std::isfinite(SumOfSquares(context, x.Reshape({x.size()})));
}

std::string LayerOf(const std::string& name) {
  constexpr char kPrefix[] = "transformer.h.";
  if (name.rfind(kPrefix, 0) != 0) return "outside the layers";
  const size_t begin = sizeof(kPrefix) - 1;
  return "layer " + name.substr(begin, name.find('.', begin) - begin);
}

std::string FirstInForward(Context& context, const Activations& a) {
  for (size_t l = 0; l < a.stream.size(); ++l) {
    if (Finite(context, a.stream[l])) continue;
    if (l == 0) return "outside the layers, the embedded tokens";
    return "layer " + std::to_string(l - 1) + ", output of the block (residual stream)";
  }
  if (!Finite(context, a.head.loss)) return "outside the layers, the loss (logits too large)";
  return "";
}

}  // namespace

std::string FirstNonFinite(Context& context, const Model& model, const Activations& activations) {
  const ParamSet& params = model.params();
  for (int i = 0; i < params.size(); ++i) {
    const std::string& name = params.spec({i}).name;
    if (!Finite(context, params.HeldValue({i}, params.Held({i}))))
      return LayerOf(name) + ", parameter " + name;
  }
  std::string place = FirstInForward(context, activations);
  if (!place.empty()) return place;
  for (int i = params.size() - 1; i >= 0; --i) {
    const std::string& name = params.spec({i}).name;
    if (!Finite(context, params.gradient({i}))) return LayerOf(name) + ", gradient of " + name;
  }
  return "";
}

}  // namespace entrain
