// Fiber: a function with a stack of its own, which runs when it is resumed and stops where it suspends itself.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_FIBER_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_FIBER_H_

#include <boost/context/fiber.hpp>
#include <cstddef>
#include <functional>
#include <span>

namespace entrain::emulated {

// Of one user: no two fibers run at the same time. Sanitizers are told of each change of stacks; ThreadSanitizer sees each fiber
// as a thread, and without an order between them but for what Release and Acquire say: it then finds the races of a kernel.
class Fiber {
 public:
  // `function` must not return; its stack lives for as long as the process.
  explicit Fiber(std::function<void()> function);
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Called outside of fibers: returns when the fiber suspends itself.
  void Resume();
  // Called by the fiber.
  void Suspend();

  // What was before a Release of an address is before what comes after the next Acquire of it.
  static void Release(const void* address);
  static void Acquire(const void* address);

 private:
  void Main();

  std::function<void()> function_;
  const void* stack_ = nullptr;  // its lowest address
  size_t stack_bytes_ = 0;
  boost::context::fiber self_;    // while suspended
  boost::context::fiber caller_;  // while running
  // What sanitizers want to know.
  void* own_fake_stack_ = nullptr;
  void* caller_fake_stack_ = nullptr;
  const void* caller_stack_ = nullptr;
  size_t caller_stack_bytes_ = 0;
  void* own_thread_ = nullptr;
  void* caller_thread_ = nullptr;
};

// A thread to ThreadSanitizer that only passes on an order.
class Relay {
 public:
  Relay();
  // What was before a Release of `from` is before what comes after the next Acquire of `to`. The caller is part of neither.
  void Pass(const void* from, const void* to);

 private:
  [[maybe_unused]] void* thread_ = nullptr;
};

// While one lives ThreadSanitizer does not look at what its fiber, or thread, does: the emulator's own state is changed by all
// fibers, of which only one runs at a time.
class UnseenByThreadSanitizer {
 public:
  UnseenByThreadSanitizer();
  ~UnseenByThreadSanitizer();
  UnseenByThreadSanitizer(const UnseenByThreadSanitizer&) = delete;
  UnseenByThreadSanitizer& operator=(const UnseenByThreadSanitizer&) = delete;
};

// ThreadSanitizer reports no race about these bytes.
void IgnoreRaces(std::span<const char> memory);

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_FIBER_H_
