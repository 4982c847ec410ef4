#include "tests/support/emulated_gpu/fiber.h"

#include <sys/mman.h>

#include <boost/context/stack_context.hpp>
#include <memory>
#include <utility>

#include "runtime/base/check.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
void AnnotateBenignRaceSized(const char* file, int line, const volatile void* start, size_t bytes,
                             const char* why);
}
#endif

namespace entrain::emulated {
namespace {

constexpr size_t kPage = 4096;
// Only what is touched takes memory.
constexpr size_t kStackBytes = size_t{512} << 10;

// Stacks with a guard page below each, never given back. Their tops are staggered: at equal distances of a power of two, a
// thousand of them would share a few lines of the cache.
class StackAllocator {
 public:
  explicit StackAllocator(const void** lowest, size_t* bytes) : lowest_(lowest), bytes_(bytes) {}

  boost::context::stack_context allocate() {
    static size_t count = 0;
    void* base = mmap(nullptr, kPage + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(base != MAP_FAILED);
    CHECK_EQ(mprotect(base, kPage, PROT_NONE), 0);
    boost::context::stack_context stack;
    stack.size = kPage + kStackBytes - count++ % 61 * 192;
    stack.sp = static_cast<char*>(base) + stack.size;
    *lowest_ = static_cast<char*>(base) + kPage;
    *bytes_ = stack.size - kPage;
    return stack;
  }
  void deallocate(boost::context::stack_context& /*stack*/) {}

 private:
  const void** lowest_;
  size_t* bytes_;
};

}  // namespace

Fiber::Fiber(std::function<void()> function) : function_(std::move(function)) {
  self_ = boost::context::fiber(std::allocator_arg, StackAllocator(&stack_, &stack_bytes_),
                                [this](boost::context::fiber&& caller) {
                                  caller_ = std::move(caller);
                                  Main();
                                  return boost::context::fiber();
                                });
#ifdef __SANITIZE_THREAD__
  own_thread_ = __tsan_create_fiber(0);
#endif
  Release(this);
}

void Fiber::Main() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &caller_stack_, &caller_stack_bytes_);
#endif
  Acquire(this);
  function_();
}

void Fiber::Resume() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&caller_fake_stack_, stack_, stack_bytes_);
#endif
#ifdef __SANITIZE_THREAD__
  caller_thread_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(own_thread_, __tsan_switch_to_fiber_no_sync);
#endif
  self_ = std::move(self_).resume();
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(caller_fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::Suspend() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&own_fake_stack_, caller_stack_, caller_stack_bytes_);
#endif
#ifdef __SANITIZE_THREAD__
  __tsan_switch_to_fiber(caller_thread_, __tsan_switch_to_fiber_no_sync);
#endif
  caller_ = std::move(caller_).resume();
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(own_fake_stack_, &caller_stack_, &caller_stack_bytes_);
#endif
}

Relay::Relay() {
#ifdef __SANITIZE_THREAD__
  thread_ = __tsan_create_fiber(0);
#endif
}

void Relay::Pass([[maybe_unused]] const void* from, [[maybe_unused]] const void* to) {
#ifdef __SANITIZE_THREAD__
  void* caller = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(thread_, __tsan_switch_to_fiber_no_sync);
  Fiber::Acquire(from);
  Fiber::Release(to);
  __tsan_switch_to_fiber(caller, __tsan_switch_to_fiber_no_sync);
#endif
}

UnseenByThreadSanitizer::UnseenByThreadSanitizer() {
#ifdef __SANITIZE_THREAD__
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
}

UnseenByThreadSanitizer::~UnseenByThreadSanitizer() {
#ifdef __SANITIZE_THREAD__
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}

void IgnoreRaces([[maybe_unused]] std::span<const char> memory) {
#ifdef __SANITIZE_THREAD__
  AnnotateBenignRaceSized(__FILE__, __LINE__, memory.data(), memory.size(), "ignored");
#endif
}

void Fiber::Release([[maybe_unused]] const void* address) {
#ifdef __SANITIZE_THREAD__
  __tsan_release(const_cast<void*>(address));
#endif
}

void Fiber::Acquire([[maybe_unused]] const void* address) {
#ifdef __SANITIZE_THREAD__
  __tsan_acquire(const_cast<void*>(address));
#endif
}

}  // namespace entrain::emulated
