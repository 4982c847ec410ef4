#include "runtime/base/status.h"

#include <gtest/gtest.h>

#include <memory>

namespace entrain {
namespace {

absl::StatusOr<int> Half(int x) {
  if (x % 2 != 0) return absl::InvalidArgumentError("odd");
  return x / 2;
}

absl::StatusOr<int> Quarter(int x) {
  ASSIGN_OR_RETURN(const int half, Half(x));
  ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

absl::Status Both(const absl::Status& first, const absl::Status& second) {
  RETURN_IF_ERROR(first);
  RETURN_IF_ERROR(second);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<int>> Boxed() { return std::make_unique<int>(7); }

absl::StatusOr<int> Unboxed() {
  ASSIGN_OR_RETURN(const std::unique_ptr<int> box, Boxed());
  return *box;
}

TEST(Status, AssignOrReturnTakesTheValueOrLeaves) {
  EXPECT_EQ(Quarter(12).value(), 3);
  EXPECT_EQ(Quarter(6).status(), absl::InvalidArgumentError("odd"));
  EXPECT_EQ(Quarter(3).status(), absl::InvalidArgumentError("odd"));
}

TEST(Status, AssignOrReturnMoves) { EXPECT_EQ(Unboxed().value(), 7); }

TEST(Status, ReturnIfErrorLeavesAtTheFirst) {
  const absl::Status first = absl::NotFoundError("first");
  const absl::Status second = absl::DataLossError("second");
  EXPECT_EQ(Both(first, second), first);
  EXPECT_EQ(Both(absl::OkStatus(), second), second);
  EXPECT_TRUE(Both(absl::OkStatus(), absl::OkStatus()).ok());
}

}  // namespace
}  // namespace entrain
