// NCCL on the emulated GPU, among ranks that are threads of one process: the functions that we use. What a test may ask of it
// beyond NCCL's own interface is here.
//
// It is as strict as NCCL's documentation: communicators must be non-blocking; until a call's state is no longer ncclInProgress
// nothing of it is on the stream, and another call is an error; the first operation waits for the other ranks' first, to connect;
// ranks have a device each, memory and streams are the device's; what ranks call must fit, each send its receive, and what
// calls read and write may overlap in place only. Memory of an operation under way is filled with what nobody wants, and must be
// found so. Operations of one device run one after another. Its sums are made from the highest rank down and, of bf16, rounded at
// every step: in no order that a caller may rely on.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_NCCL_EMULATED_NCCL_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_NCCL_EMULATED_NCCL_H_

namespace entrain::emulated {

// From now on every communicator of this process reports this ncclResult_t as its state.
void BreakNccl(int result);

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_NCCL_EMULATED_NCCL_H_
