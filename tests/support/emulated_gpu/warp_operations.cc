#include "tests/support/emulated_gpu/warp_operations.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/support/emulated_gpu/kernel_run.h"
#include "tests/support/emulated_gpu/tensor_core_sum.h"

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
    for (int j = 0; j < 8; ++j) {
      std::array<float, kProductTerms> products;
      for (size_t k = 0; k < kProductTerms; ++k) products[k] = left[k] * b[k][j];
      row[j] = TensorCoreSum(products, row[j]);
    }
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

// Where the elements of a right operand lie, as its descriptor says (PTX manual: matrix descriptor). 16 terms, 64 columns.
class TileOperand {
 public:
  TileOperand(uint64_t descriptor, bool row_major)
      : address_((descriptor & kField) * kVector),
        stride_((descriptor >> 32 & kField) * kVector),
        row_major_(row_major) {
    constexpr uint64_t kSwizzled128 = 1;
    if (descriptor >> 62 != kSwizzled128) {
      FailKernel("a product: only tiles with a swizzle of 128 bytes are emulated");
    }
    if ((descriptor >> 49 & 7) != 0) FailKernel("a product: the descriptor has a base offset");
  }

  const void* At(size_t term, size_t column) const {
    // Groups of eight rows of 128 bytes.
    const size_t row = row_major_ ? term : column;
    const size_t in_row = row_major_ ? column : term;
    const size_t plain = address_ + row / 8 * stride_ + row % 8 * 128 + in_row * sizeof(uint16_t);
    return FromShared(plain ^ (plain >> 7 & 7) * kVector);
  }

 private:
  static constexpr uint64_t kField = 0x3fff;

  // Addresses in shared memory are the low 18 bits of the host's.
  static const char* FromShared(size_t address) {
    constexpr uintptr_t kWindow = uintptr_t{1} << 18;
    const char* start = DynamicShared();
    return start + (address - reinterpret_cast<uintptr_t>(start)) % kWindow;
  }

  size_t address_;
  size_t stride_;
  bool row_major_;
};

void LoadTile(const TileProductOperand& operand, float (&b)[16][64]) {
  const TileOperand tile(operand.b, operand.row_major);
  for (size_t k = 0; k < 16; ++k) {
    for (size_t n = 0; n < 64; ++n) {
      const void* element = tile.At(k, n);
      if (reinterpret_cast<uintptr_t>(element) % kVector == 0) {
        if (!IsShared(element, kVector)) {
          FailKernel("a product: its tile is not in the block's shared memory");
        }
        if (IsUnpublished(element, kVector)) {
          FailKernel("a product: its tile was copied, but not published to products");
        }
      }
      uint16_t bits;
      std::memcpy(&bits, element, sizeof(bits));
      b[k][n] = LowHalf(bits);
    }
  }
}

// One warp's 16 rows.
void TileProduct(void* const* operands) {
  auto operand = [&](int lane) { return static_cast<TileProductOperand*>(operands[lane]); };
  float b[16][64];
  LoadTile(*operand(0), b);
  float a[16][16];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const int g = lane / 4, p = 2 * (lane % 4);
    const TileProductOperand& from = *operand(lane);
    if (from.b != operand(0)->b || from.row_major != operand(0)->row_major) {
      FailKernel("a product: lanes name different tiles");
    }
    for (int i = 0; i < 4; ++i) {
      float* pair = &a[g + 8 * (i % 2)][p + 8 * (i / 2)];
      pair[0] = LowHalf(from.a[i]);
      pair[1] = HighHalf(from.a[i]);
    }
  }
  for (int row = 0; row < 16; ++row) {
    for (int n = 0; n < 64; ++n) {
      std::array<float, kProductTerms> products;
      for (size_t k = 0; k < kProductTerms; ++k) products[k] = a[row][k] * b[k][n];
      const int lane = row % 8 * 4 + n % 8 / 2;
      float& c = operand(lane)->c[n / 8 * 4 + row / 8 * 2 + n % 2];
      c = TensorCoreSum(products, c);
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
    case Collective::kTileProduct:
      return "WaitForProducts";
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
    case Collective::kTileProduct:
      return TileProduct(operands);
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
      unpublished_.push_back(copy.shared);
    }
    ++first_group_;
  }
  if (first_copy_ == copies_.size()) Forget();
}

bool AsyncCopies::Hides(const void* start, size_t bytes) const {
  return std::ranges::any_of(unpublished_, [&](const void* copy) {
    return copy >= start && copy < static_cast<const char*>(start) + bytes;
  });
}

void AsyncCopies::Forget() {
  copies_.clear();
  groups_.clear();
  first_group_ = first_copy_ = 0;
}

void AsyncCopies::Clear() {
  Forget();
  unpublished_.clear();
}

void AsyncProducts::Begin(float* c, const uint32_t* a, uint64_t b, bool row_major,
                          bool accumulate) {
  const auto [sums, is_new] = sums_.try_emplace(c);
  if (is_new) {
    std::copy_n(c, kSums, sums->second.begin());
    std::memset(c, 0xff, sizeof(Sums));
  }
  products_.push_back({c, a, {a[0], a[1], a[2], a[3]}, b, row_major, accumulate});
}

void AsyncProducts::Commit() { groups_.push_back(products_.size()); }

void AsyncProducts::Perform(const Product& product) {
  Sums& sums = sums_.at(product.c);
  if (!product.accumulate) sums.fill(0.0F);
  if (!std::equal(product.a_at_first.begin(), product.a_at_first.end(), product.a)) {
    FailKernel("a product under way: its left operand has been changed");
  }
  TileProductOperand operand{
      .c = sums.data(), .a = product.a, .b = product.b, .row_major = product.row_major};
  JoinWarp(Collective::kTileProduct, &operand);
}

void AsyncProducts::Wait(int pending) {
  if (groups_.size() <= static_cast<size_t>(pending)) return;
  const auto done_groups = static_cast<ptrdiff_t>(groups_.size()) - pending;
  const size_t done = groups_[static_cast<size_t>(done_groups) - 1];
  for (size_t i = 0; i < done; ++i) Perform(products_[i]);
  products_.erase(products_.begin(), products_.begin() + static_cast<ptrdiff_t>(done));
  groups_.erase(groups_.begin(), groups_.begin() + done_groups);
  for (size_t& end : groups_) end -= done;
  std::erase_if(sums_, [&](const auto& entry) {
    const auto& [c, sums] = entry;
    if (std::ranges::any_of(products_, [&](const Product& p) { return p.c == c; })) return false;
    std::copy(sums.begin(), sums.end(), c);
    return true;
  });
}

void AsyncProducts::Clear() {
  products_.clear();
  groups_.clear();
  sums_.clear();
}

}  // namespace entrain::emulated
