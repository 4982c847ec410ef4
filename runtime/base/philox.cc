#include "runtime/base/philox.h"

#include <cmath>
#include <numbers>

namespace entrain {
namespace {

struct Wide {
  uint32_t high;
  uint32_t low;
};

Wide Multiply(uint32_t a, uint32_t b) {
  const uint64_t product = static_cast<uint64_t>(a) * b;
  return {static_cast<uint32_t>(product >> 32), static_cast<uint32_t>(product)};
}

}  // namespace

std::array<uint32_t, 4> Philox(uint64_t seed, uint64_t stream, uint64_t counter) {
  // Multipliers and Weyl increments of the paper's table 2.
  constexpr uint32_t kMultiplier0 = 0xD2511F53;
  constexpr uint32_t kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9;
  constexpr uint32_t kWeyl1 = 0xBB67AE85;
  constexpr int kRounds = 10;

  std::array<uint32_t, 4> x = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                               static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
  auto key0 = static_cast<uint32_t>(seed);
  auto key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < kRounds; ++round) {
    const Wide p0 = Multiply(kMultiplier0, x[0]);
    const Wide p1 = Multiply(kMultiplier1, x[2]);
    x = {p1.high ^ x[1] ^ key0, p1.low, p0.high ^ x[3] ^ key1, p0.low};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return x;
}

uint64_t StreamOf(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : name) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  return hash;
}

std::array<float, 2> NormalPair(uint64_t seed, uint64_t stream, uint64_t pair) {
  const std::array<uint32_t, 4> words = Philox(seed, stream, pair);
  // 53 bits, moved off zero so that the logarithm is finite.
  const uint64_t bits = (static_cast<uint64_t>(words[0]) << 21) ^ (words[1] >> 11);
  const double u = (static_cast<double>(bits) + 0.5) * 0x1p-53;
  const double angle = 2.0 * std::numbers::pi * (static_cast<double>(words[2]) * 0x1p-32);
  const double radius = std::sqrt(-2.0 * std::log(u));
  return {static_cast<float>(radius * std::cos(angle)),
          static_cast<float>(radius * std::sin(angle))};
}

float NormalAt(uint64_t seed, uint64_t stream, uint64_t index) {
  return NormalPair(seed, stream, index / 2)[index % 2];
}

}  // namespace entrain
