// CHECK: a programmer's error ends the process with the place, the condition and what was streamed to it.
//   CHECK(rows > 0) << "rows " << rows;
#ifndef ENTRAIN_RUNTIME_BASE_CHECK_H_
#define ENTRAIN_RUNTIME_BASE_CHECK_H_

#include <sstream>

namespace entrain {

class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

// Gives both arms of the macro's conditional the type void.
struct CheckVoidify {
  void operator&(std::ostream&) const {}
};

}  // namespace entrain

// An expression that more may be streamed to: no parentheses around it.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define CHECK(condition)                    \
  (condition) ? static_cast<void>(0)        \
              : ::entrain::CheckVoidify() & \
                    ::entrain::CheckFailure(__FILE__, __LINE__, #condition).stream()
#define CHECK_EQ(a, b) CHECK((a) == (b)) << (a) << " vs " << (b) << " "
#define CHECK_LE(a, b) CHECK((a) <= (b)) << (a) << " vs " << (b) << " "
#define CHECK_LT(a, b) CHECK((a) < (b)) << (a) << " vs " << (b) << " "
#define CHECK_GE(a, b) CHECK((a) >= (b)) << (a) << " vs " << (b) << " "
#define CHECK_GT(a, b) CHECK((a) > (b)) << (a) << " vs " << (b) << " "
// NOLINTEND(bugprone-macro-parentheses)

#endif  // ENTRAIN_RUNTIME_BASE_CHECK_H_
