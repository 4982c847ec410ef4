#include "model/config_key.h"

#include <cmath>

namespace entrain {

std::string DescribeRange(const IntegerRange& range) {
  if (range.max == std::numeric_limits<int64_t>::max()) {
    return "an integer >= " + std::to_string(range.min);
  }
  return "an integer from " + std::to_string(range.min) + " to " + std::to_string(range.max);
}

std::string DescribeRange(const NumberRange& range) {
  const std::string min = ShortestDecimal(range.min);
  if (std::isinf(range.max))
    return "a number " + std::string(range.min_excluded ? "> " : ">= ") + min;
  return "a number in " + std::string(range.min_excluded ? "(" : "[") + min + ", " +
         ShortestDecimal(range.max) + (range.max_excluded ? ")" : "]");
}

bool Contains(const IntegerRange& range, int64_t value) {
  return range.min <= value && value <= range.max;
}

bool Contains(const NumberRange& range, double value) {
  if (!std::isfinite(value) || value < range.min || value > range.max) return false;
  return !(range.min_excluded && value == range.min) && !(range.max_excluded && value == range.max);
}

}  // namespace entrain
