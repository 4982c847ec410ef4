#include "launcher/background_save.h"

#include <cstring>
#include <utility>

#include "launcher/state_on_host.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/device/device_memory.h"
#include "runtime/device/parallel_for.h"

namespace entrain {
namespace {

// What copies of all of them take, one after another.
int64_t BytesOf(const std::vector<StateTensor>& tensors) {
  int64_t bytes = 0;
  for (const StateTensor& tensor : tensors) bytes += BytesOf(tensor);
  return bytes;
}

constexpr int64_t kChunk = int64_t{1} << 20;

// The system backs memory when it is first written to, which takes several times as long as a copy: not in the first save.
Buffer TakeMemory(const Context& context, int64_t bytes) {
  Buffer memory(bytes);
  auto* data = static_cast<char*>(memory.data());
  ParallelForChunks(context, bytes, kChunk, [&](int64_t begin, int64_t end) {
    std::memset(data + begin, 0, static_cast<size_t>(end - begin));
  });
  return memory;
}

// By all threads: one core alone does not reach the memory's speed.
void Copy(Context& context, const StateTensor& tensor, void* to) {
  const int64_t bytes = BytesOf(tensor);
  if (tensor.device != DeviceKind::kCpu) return CopyToHost(context, tensor.data, to, bytes);
  const auto* source = reinterpret_cast<const char*>(tensor.data);
  auto* target = static_cast<char*>(to);
  ParallelForChunks(context, bytes, kChunk, [&](int64_t begin, int64_t end) {
    std::memcpy(target + begin, source + begin, static_cast<size_t>(end - begin));
  });
}

}  // namespace

BackgroundSaver::BackgroundSaver(Context& context, Communicator& world, CheckpointStore& store,
                                 const RetentionPolicy& retention,
                                 const std::vector<StateTensor>& tensors)
    : context_(context),
      comm_(world.Split(0, world.rank(), "save")),
      store_(store),
      retention_(retention),
      memory_(TakeMemory(context, BytesOf(tensors))),
      thread_([this] { RunThread(); }) {}

BackgroundSaver::~BackgroundSaver() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void BackgroundSaver::Start(CheckpointContents contents) {
  CHECK(!under_way_) << "a save was started before the one under way was waited for";
  CHECK_LE(BytesOf(contents.tensors), memory_.bytes());
  under_way_ = true;
  auto* place = static_cast<float*>(memory_.data());
  for (StateTensor& tensor : contents.tensors) {
    Copy(context_, tensor, place);
    tensor.data = place;
    tensor.device = DeviceKind::kCpu;
    place += tensor.box.elements();
  }
  snapshot_ = std::move(contents);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    saving_ = true;
  }
  changed_.notify_all();
}

bool BackgroundSaver::Done() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !saving_;
}

absl::StatusOr<BackgroundSave> BackgroundSaver::Wait() {
  CHECK(under_way_) << "no save is under way";
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return !saving_; });
  under_way_ = false;
  return std::move(result_);
}

void BackgroundSaver::RunThread() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return saving_ || stopping_; });
    if (!saving_) return;
    lock.unlock();
    absl::StatusOr<BackgroundSave> result = Save();
    lock.lock();
    result_ = std::move(result);
    saving_ = false;
    changed_.notify_all();
  }
}

absl::StatusOr<BackgroundSave> BackgroundSaver::Save() {
  const auto start = SteadyClock::now();
  BackgroundSave save{.info = {.step = snapshot_.step}};
  ASSIGN_OR_RETURN(save.info.path, store_.Save(*comm_, snapshot_, retention_, &save.warning));
  save.seconds = SecondsSince(start);
  return save;
}

}  // namespace entrain
