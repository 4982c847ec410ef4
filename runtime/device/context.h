// Context: what an op runs on. Passed first, always; ops keep their caches (compiled matrix products, scratch) in it.
#ifndef ENTRAIN_RUNTIME_DEVICE_CONTEXT_H_
#define ENTRAIN_RUNTIME_DEVICE_CONTEXT_H_

#include <memory>
#include <string>
#include <typeindex>
#include <unordered_map>

#include "runtime/base/enum_table.h"
#include "runtime/base/status.h"

namespace entrain {

enum class DeviceKind { kCpu };
inline constexpr EnumTable<DeviceKind, 1> kDeviceNames{{{{DeviceKind::kCpu, "cpu"}}}};

class Context {
 public:
  // A CPU context. num_threads = 0: one for each core this process may run on.
  static absl::StatusOr<std::unique_ptr<Context>> CreateCpu(int num_threads);
  // Cores in this process's affinity mask, which a launcher, a container or a batch system may have narrowed.
  static int AllowedCores();

  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  DeviceKind device() const { return DeviceKind::kCpu; }
  int num_threads() const { return num_threads_; }
  // "AMD EPYC, 2 threads, avx512f avx512_bf16"
  std::string Description() const;

  // The context's one object of type T, made at first use: an op's cache. Not thread-safe: ops are issued by one thread.
  template <typename T>
  T& Cache() {
    std::shared_ptr<void>& slot = caches_[std::type_index(typeid(T))];
    if (!slot) slot = std::make_shared<T>();
    return *static_cast<T*>(slot.get());
  }

 private:
  explicit Context(int num_threads) : num_threads_(num_threads) {}

  int num_threads_;
  std::unordered_map<std::type_index, std::shared_ptr<void>> caches_;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_CONTEXT_H_
