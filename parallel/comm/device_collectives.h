// DeviceCollectives: how the ranks of a run exchange what lies in the memory of their contexts' devices, chosen once for all.
#ifndef ENTRAIN_PARALLEL_COMM_DEVICE_COLLECTIVES_H_
#define ENTRAIN_PARALLEL_COMM_DEVICE_COLLECTIVES_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "runtime/device/context.h"

namespace entrain {

struct DeviceCollectives {
  bool nccl = false;
  std::string backend;  // "NCCL 2.28.9", "through host memory", "host memory"
  std::string why;  // of a choice that one might not expect: "ranks 0 and 1 share one GPU"; or ""
  std::string settings;  // NCCL's: "NCCL_ALGO=Ring, NCCL_PROTO=Simple"; or ""
  // Makes the communicator of the same ranks as `host`, which must outlive it, for device memory; collective over them. Empty
  // where the contexts' memory is host memory: there `host` does.
  std::function<std::unique_ptr<Communicator>(Communicator& host)> over;
};

struct DeviceCollectivesOptions {
  bool deterministic = true;  // the same bits on every run with the same ranks
  bool nccl = true;           // where it can be had
  CommTimeouts timeouts;
};

// Collective over all ranks, which get the same. NCCL where every rank has it and a GPU of its own, else through host memory.
// `context` must outlive what is made of it; `world` not.
DeviceCollectives ChooseDeviceCollectives(Context& context, Communicator& world,
                                          const DeviceCollectivesOptions& options = {});

// What ranks have, a text each.
struct NcclOfRanks {
  std::vector<std::string> versions;
  std::vector<std::string> lacks;  // why a rank has none, or ""
  std::vector<std::string> devices;
  std::vector<std::string> settings;
};

// Why NCCL cannot connect them, or "".
std::string WhyNotNccl(const NcclOfRanks& ranks);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_COMM_DEVICE_COLLECTIVES_H_
