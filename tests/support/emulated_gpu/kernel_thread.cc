#include "tests/support/emulated_gpu/kernel_thread.h"

#include "tests/support/emulated_gpu/block_runner.h"
#include "tests/support/emulated_gpu/kernel_run.h"

namespace entrain::emulated {

unsigned int Lane() {
  const UnseenByThreadSanitizer unseen;
  return static_cast<unsigned int>(Runner().thread().lane);
}

void SyncBlock() {
  const UnseenByThreadSanitizer unseen;
  Runner().SyncBlock();
}

void JoinWarp(Collective collective, void* operand) {
  const UnseenByThreadSanitizer unseen;
  Runner().JoinWarp(collective, operand);
}

namespace {

PhaseBarrier& BarrierAt(uint64_t* place) {
  if (reinterpret_cast<uintptr_t>(place) % sizeof(PhaseBarrier) != 0 ||
      !IsShared(place, sizeof(PhaseBarrier))) {
    FailKernel("a barrier: its place is not in the block's shared memory at a multiple of 8");
  }
  return *reinterpret_cast<PhaseBarrier*>(place);
}

PhaseBarrier& InitialisedBarrierAt(uint64_t* place) {
  PhaseBarrier& barrier = BarrierAt(place);
  if (barrier.arrivals > kMostArrivals) FailKernel("a barrier that was not initialised");
  return barrier;
}

}  // namespace

void InitBarrier(uint64_t* barrier, int arrivals) {
  const UnseenByThreadSanitizer unseen;
  const auto count = static_cast<uint16_t>(arrivals);
  BarrierAt(barrier) = {.arrivals = count, .missing = count, .phase = 0};
}

void ArriveAt(uint64_t* barrier) {
  const UnseenByThreadSanitizer unseen;
  Runner().ArriveAt(InitialisedBarrierAt(barrier));
}

void WaitForPhase(uint64_t* barrier, unsigned parity) {
  const UnseenByThreadSanitizer unseen;
  Runner().WaitForPhase(InitialisedBarrierAt(barrier), parity);
}

char* DynamicShared() {
  const UnseenByThreadSanitizer unseen;
  return Runner().dynamic_shared();
}

namespace {

AsyncCopies& CopiesOfThread() {
  const UnseenByThreadSanitizer unseen;
  return Runner().thread().copies;
}
AsyncProducts& ProductsOfThread() {
  const UnseenByThreadSanitizer unseen;
  return Runner().thread().products;
}

}  // namespace

// What these do to memory is seen.
void BeginCopy16(void* shared, const void* global, bool valid) {
  CopiesOfThread().Begin(shared, global, valid);
}
void CommitCopies() { CopiesOfThread().Commit(); }
void WaitForCopies(int pending) { CopiesOfThread().Wait(pending); }
void PublishCopies() { CopiesOfThread().Publish(); }
void BeginProduct(float* c, const uint32_t* a, uint64_t b, bool row_major, bool accumulate) {
  ProductsOfThread().Begin(c, a, b, row_major, accumulate);
}
void CommitProducts() { ProductsOfThread().Commit(); }
void WaitForProducts(int pending) { ProductsOfThread().Wait(pending); }

}  // namespace entrain::emulated
