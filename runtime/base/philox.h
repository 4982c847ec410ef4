// Philox-4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011): random numbers as a pure
// function of (seed, stream, counter), with no state to save or to share between ranks.
#ifndef ENTRAIN_RUNTIME_BASE_PHILOX_H_
#define ENTRAIN_RUNTIME_BASE_PHILOX_H_

#include <array>
#include <cstdint>
#include <string_view>

namespace entrain {

// Four independent 32-bit words for each (seed, stream, counter).
std::array<uint32_t, 4> Philox(uint64_t seed, uint64_t stream, uint64_t counter);

// A stream number for a name (a tensor's, say): the FNV-1a hash of its bytes.
uint64_t StreamOf(std::string_view name);

// Uniform in [0, 1) with 24 random bits.
inline float UniformFloat(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24F; }

// Elements 2·pair and 2·pair + 1 of the infinite standard normal sequence of (seed, stream); Box-Muller in double, each
// rounded once.
std::array<float, 2> NormalPair(uint64_t seed, uint64_t stream, uint64_t pair);

// Element `index` of the same sequence.
float NormalAt(uint64_t seed, uint64_t stream, uint64_t index);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_BASE_PHILOX_H_
