#include "launcher/free_memory.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace entrain {
namespace {

// The number of kB behind `key` in a file of "Key:  123 kB" lines, in bytes.
int64_t KilobyteField(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    int64_t kilobytes = 0;
    if (word == key && file >> kilobytes) return kilobytes * 1024;
  }
  return -1;
}

// A number in a file that holds nothing else; −1 for "max" or no file.
int64_t NumberIn(const char* path) {
  std::ifstream file(path);
  int64_t value = -1;
  return file >> value ? value : -1;
}

int64_t ControlGroupLeft() {
  const int64_t limit = NumberIn("/sys/fs/cgroup/memory.max");
  const int64_t used = NumberIn("/sys/fs/cgroup/memory.current");
  return limit < 0 || used < 0 ? -1 : std::max<int64_t>(0, limit - used);
}

}  // namespace

int64_t AvailableMemory() {
  const int64_t machine = KilobyteField("/proc/meminfo", "MemAvailable:");
  const int64_t group = ControlGroupLeft();
  if (machine < 0 || group < 0) return std::max(machine, group);
  return std::min(machine, group);
}

int64_t PeakMemory() { return KilobyteField("/proc/self/status", "VmHWM:"); }

}  // namespace entrain
