// The variants table: every architecture that is tested, small. A row buys all the tests that run over the table:
// gradient check, recomputation, accumulation, resuming, threads, export and import, cached decoding.
#ifndef ENTRAIN_TESTS_SUPPORT_VARIANTS_H_
#define ENTRAIN_TESTS_SUPPORT_VARIANTS_H_

#include <string>
#include <vector>

#include "model/model_config.h"

namespace entrain {

struct Variant {
  std::string name;  // letters, digits and underscores
  ModelConfig config;
};

const std::vector<Variant>& Variants();

// For INSTANTIATE_TEST_SUITE_P.
inline std::string VariantName(const Variant& variant) { return variant.name; }
void PrintTo(const Variant& variant, std::ostream* out);

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_VARIANTS_H_
