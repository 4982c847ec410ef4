// A driver library (libcuda.so.1) for a machine without a GPU: what cuDNN asks for while it makes a plan. Loading compiled code
// succeeds and is forgotten; everything else answers CUDA_ERROR_STUB_LIBRARY. A test that is linked to it finds it in place of
// the driver, if there is one.
//
// <cuda.h> is left out: it gives some of the names a suffix, and cuDNN looks them up without.

namespace {

constexpr int kSuccess = 0;       // CUDA_SUCCESS
constexpr int kStubLibrary = 34;  // CUDA_ERROR_STUB_LIBRARY
int code;                         // what handles point to

}  // namespace

extern "C" {

int cuLibraryLoadData(void** library) {
  *library = &code;
  return kSuccess;
}

int cuLibraryUnload() { return kSuccess; }

int cuLibraryGetKernel(void** kernel) {
  *kernel = &code;
  return kSuccess;
}

int cuKernelSetAttribute() { return kSuccess; }

int cuKernelGetAttribute(int* value) {
  *value = 0;
  return kSuccess;
}

#define STUB(name) \
  int name() { return kStubLibrary; }
STUB(cuCtxGetCurrent)
STUB(cuCtxGetLimit)
STUB(cuCtxPopCurrent)
STUB(cuCtxPushCurrent)
STUB(cuDeviceGet)
STUB(cuDeviceGetCount)
STUB(cuDriverGetVersion)
STUB(cuGetErrorName)
STUB(cuGetErrorString)
STUB(cuLaunchCooperativeKernel)
STUB(cuLaunchKernel)
STUB(cuLaunchKernelEx)
STUB(cuLibraryLoadFromFile)
STUB(cuLinkAddData)
STUB(cuLinkComplete)
STUB(cuLinkCreate)
STUB(cuLinkDestroy)
STUB(cuOccupancyMaxPotentialClusterSize)
STUB(cuStreamGetCtx)

}  // extern "C"
