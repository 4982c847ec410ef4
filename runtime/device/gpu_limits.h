// What a GPU can do at most, of the data sheets.
#ifndef ENTRAIN_RUNTIME_DEVICE_GPU_LIMITS_H_
#define ENTRAIN_RUNTIME_DEVICE_GPU_LIMITS_H_

#include <string_view>

namespace entrain {

// 0: not known.
struct GpuLimits {
  double bf16_flops = 0.0;  // dense, tensor cores
  double bytes = 0.0;       // of device memory, a second
};

// `device`: its name, "NVIDIA H100 80GB HBM3".
inline GpuLimits LimitsOf(std::string_view device) {
  struct Known {
    std::string_view part;  // of the device's name; the first that fits counts
    GpuLimits limits;
  };
  static constexpr Known kKnown[] = {
      {"H200 NVL", {835e12, 4.8e12}},
      {"H200", {989e12, 4.8e12}},
      {"H100 PCIe", {756e12, 2.0e12}},
      {"H100 NVL", {835e12, 3.9e12}},
      {"H100", {989e12, 3.35e12}},
      {"A100-SXM4-40GB", {312e12, 1.555e12}},
      {"A100-PCIE-40GB", {312e12, 1.555e12}},
      {"A100", {312e12, 2.0e12}},
  };
  for (const Known& known : kKnown) {
    if (device.find(known.part) != std::string_view::npos) return known.limits;
  }
  return {};
}

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_GPU_LIMITS_H_
