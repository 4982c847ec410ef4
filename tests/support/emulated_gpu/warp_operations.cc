#include "tests/support/emulated_gpu/warp_operations.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/support/emulated_gpu/block_runner.h"

namespace entrain::emulated {
namespace {

constexpr uintptr_t kVector = 16;

float LowHalf(uint32_t pair) { return std::bit_cast<float>(pair << 16); }
float HighHalf(uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000U); }

void Shuffle(void* const* operands) {
  std::array<uint64_t, kWarpLanes> values;
  for (size_t lane = 0; lane < kWarpLanes; ++lane) {
    values[lane] = static_cast<ShuffleOperand*>(operands[lane])->value;
  }
  for (size_t lane = 0; lane < kWarpLanes; ++lane) {
    auto* operand = static_cast<ShuffleOperand*>(operands[lane]);
    operand->value = values[static_cast<size_t>(operand->from) % kWarpLanes];
  }
}

// The products of two bf16 are exact in fp32.
void MultiplyAddFragments(void* const* operands) {
  float a[16][16];
  float b[16][8];
  float c[16][8];
  auto operand = [&](int lane) { return static_cast<MultiplyAddOperand*>(operands[lane]); };
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const int g = lane / 4, p = 2 * (lane % 4);
    const MultiplyAddOperand& from = *operand(lane);
    for (int i = 0; i < 4; ++i) {
      float* pair = &a[g + 8 * (i % 2)][p + 8 * (i / 2)];
      pair[0] = LowHalf(from.a[i]);
      pair[1] = HighHalf(from.a[i]);
      c[g + 8 * (i / 2)][p + i % 2] = from.c[i];
    }
    for (int i = 0; i < 2; ++i) {
      b[p + 8 * i][g] = LowHalf(from.b[i]);
      b[p + 8 * i + 1][g] = HighHalf(from.b[i]);
    }
  }
  for (auto& row : c) {
    const auto& left = a[&row - c];
    // Products meet before they join the sum, as in a tensor core.
    float products[8] = {};
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 8; ++j) products[j] += left[k] * b[k][j];
    }
    for (int j = 0; j < 8; ++j) row[j] += products[j];
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const int g = lane / 4, p = 2 * (lane % 4);
    for (int i = 0; i < 4; ++i) operand(lane)->c[i] = c[g + 8 * (i / 2)][p + i % 2];
  }
}

void LoadMatrices(void* const* operands, bool transposed) {
  uint16_t elements[4][8][8];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const void* row = static_cast<LoadMatricesOperand*>(operands[lane])->row;
    if (reinterpret_cast<uintptr_t>(row) % kVector != 0) {
      FailKernel(absl::StrCat("LoadMatrices: the address of lane ", lane,
                              " is not a multiple of 16 bytes"));
    }
    if (!IsShared(row, kVector)) {
      FailKernel(absl::StrCat("LoadMatrices: the address of lane ", lane,
                              " is not in the block's shared memory"));
    }
    std::memcpy(elements[lane / 8][lane % 8], row, kVector);
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const int g = lane / 4, p = 2 * (lane % 4);
    uint32_t* r = static_cast<LoadMatricesOperand*>(operands[lane])->r;
    for (int m = 0; m < 4; ++m) {
      const uint16_t low = transposed ? elements[m][p][g] : elements[m][g][p];
      const uint16_t high = transposed ? elements[m][p + 1][g] : elements[m][g][p + 1];
      r[m] = low | static_cast<uint32_t>(high) << 16;
    }
  }
}

}  // namespace

const char* CollectiveName(Collective collective) {
  switch (collective) {
    case Collective::kSync:
      return "__syncwarp";
    case Collective::kShuffle:
      return "a shuffle";
    case Collective::kMultiplyAdd:
      return "MultiplyAdd";
    case Collective::kLoadMatrices:
      return "LoadMatrices";
    case Collective::kLoadMatricesTransposed:
      return "LoadMatricesTransposed";
  }
  return "";
}

void PerformCollective(Collective collective, void* const* operands) {
  switch (collective) {
    case Collective::kSync:
      return;
    case Collective::kShuffle:
      return Shuffle(operands);
    case Collective::kMultiplyAdd:
      return MultiplyAddFragments(operands);
    case Collective::kLoadMatrices:
      return LoadMatrices(operands, false);
    case Collective::kLoadMatricesTransposed:
      return LoadMatrices(operands, true);
  }
}

void AsyncCopies::Begin(void* shared, const void* global, bool valid) {
  if (reinterpret_cast<uintptr_t>(shared) % kVector != 0 ||
      reinterpret_cast<uintptr_t>(global) % kVector != 0) {
    FailKernel("CopyAsync16: an address is not a multiple of 16 bytes");
  }
  if (!IsShared(shared, kVector)) {
    FailKernel("CopyAsync16: the destination is not in the block's shared memory");
  }
  std::memset(shared, 0xff, kVector);
  copies_.push_back({shared, global, valid});
}

void AsyncCopies::Commit() { groups_.push_back(copies_.size()); }

void AsyncCopies::Wait(int pending) {
  while (groups_.size() - first_group_ > static_cast<size_t>(pending)) {
    for (; first_copy_ < groups_[first_group_]; ++first_copy_) {
      const Copy& copy = copies_[first_copy_];
      if (copy.valid) {
        std::memcpy(copy.shared, copy.global, kVector);
      } else {
        std::memset(copy.shared, 0, kVector);
      }
    }
    ++first_group_;
  }
  if (first_copy_ == copies_.size()) Clear();
}

void AsyncCopies::Clear() {
  copies_.clear();
  groups_.clear();
  first_group_ = first_copy_ = 0;
}

}  // namespace entrain::emulated
