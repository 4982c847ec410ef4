// Says what a kernel did, or host code did to device memory, before the process ends by a segmentation fault.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_FAULT_REPORT_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_FAULT_REPORT_H_

namespace entrain::emulated {

// For the calling thread, any number of times.
void ReportFaults();

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_FAULT_REPORT_H_
