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

enum class DeviceKind { kCpu, kCuda };
inline constexpr EnumTable<DeviceKind, 2> kDeviceNames{
    {{{DeviceKind::kCpu, "cpu"}, {DeviceKind::kCuda, "cuda"}}}};

struct CudaDevice;  // cuda_device.h

class Context {
 public:
  // A CPU context. num_threads = 0: one for each core this process may run on.
  static absl::StatusOr<std::unique_ptr<Context>> CreateCpu(int num_threads);
  // A context on a CUDA device of this process, by its number among those visible. Ops are issued to one stream, in order, and
  // return before they are done. num_threads: of what is left to the host. An error says why there is no such device:
  // FailedPrecondition when this program, driver or machine has none at all, InvalidArgument for a wrong number.
  static absl::StatusOr<std::unique_ptr<Context>> CreateCuda(int ordinal, int num_threads);
  // How many CUDA devices there are to choose from; the same errors.
  static absl::StatusOr<int> CudaDevices();
  // Cores in this process's affinity mask, which a launcher, a container or a batch system may have narrowed.
  static int AllowedCores();

  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  DeviceKind device() const { return device_; }
  int num_threads() const { return num_threads_; }
  // Of a CUDA context.
  const CudaDevice& cuda() const { return *cuda_; }
  // "AMD EPYC, 2 threads, avx512 with bf16", "NVIDIA H200, 140 GiB, sm_90"
  std::string Description() const;

  // The context's one object of type T, made at first use: an op's cache. Not thread-safe: ops are issued by one thread.
  template <typename T>
  T& Cache() {
    std::shared_ptr<void>& slot = caches_[std::type_index(typeid(T))];
    if (!slot) slot = std::make_shared<T>();
    return *static_cast<T*>(slot.get());
  }

 private:
  Context(DeviceKind device, int num_threads) : device_(device), num_threads_(num_threads) {}
  static absl::StatusOr<std::unique_ptr<Context>> Create(DeviceKind device, int num_threads);

  DeviceKind device_;
  int num_threads_;
  // Before the caches, which may hold memory and handles of the device and must go first.
  std::shared_ptr<const CudaDevice> cuda_;
  std::unordered_map<std::type_index, std::shared_ptr<void>> caches_;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_CONTEXT_H_
