// Errors that a user or the machine can cause travel as absl::Status up to main. A programmer's error is a CHECK.
#ifndef ENTRAIN_RUNTIME_BASE_STATUS_H_
#define ENTRAIN_RUNTIME_BASE_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the calling function when `expr` (an absl::Status) is not OK.
#define RETURN_IF_ERROR(expr)                                                              \
  do {                                                                                     \
    if (absl::Status entrain_status = (expr); !entrain_status.ok()) return entrain_status; \
  } while (false)

#define ENTRAIN_CONCAT_INNER(a, b) a##b
#define ENTRAIN_CONCAT(a, b) ENTRAIN_CONCAT_INNER(a, b)

// ASSIGN_OR_RETURN(auto value, Make()): the value, or returns the error of an absl::StatusOr.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL(ENTRAIN_CONCAT(entrain_or_, __LINE__), lhs, expr)
// lhs may be a declaration, which parentheses would break.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define ASSIGN_OR_RETURN_IMPL(temporary, lhs, expr) \
  auto temporary = (expr);                          \
  if (!temporary.ok()) return temporary.status();   \
  lhs = std::move(temporary).value()
// NOLINTEND(bugprone-macro-parentheses)

#endif  // ENTRAIN_RUNTIME_BASE_STATUS_H_
