// Counts MPI's communicators and requests of a program that it is preloaded into (LD_PRELOAD), through MPI's profiling
// interface, and tells on standard error what is left of them when MPI ends. Open MPI's own report of leaks
// (mpi_show_handle_leaks) names a communicator only while something still uses it, and no requests.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <atomic>
#include <cstdio>

namespace {

std::atomic<long> communicators_made = 0;
std::atomic<long> communicators_left = 0;
std::atomic<long> requests_made = 0;
std::atomic<long> requests_left = 0;

int Made(int code, std::atomic<long>& made, std::atomic<long>& left) {
  if (code == MPI_SUCCESS) {
    ++made;
    ++left;
  }
  return code;
}

}  // namespace

extern "C" {

int MPI_Comm_dup(MPI_Comm comm, MPI_Comm* out) {
  return Made(PMPI_Comm_dup(comm, out), communicators_made, communicators_left);
}

int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm* out) {
  return Made(PMPI_Comm_split_type(comm, type, key, info, out), communicators_made,
              communicators_left);
}

int MPI_Comm_free(MPI_Comm* comm) {
  --communicators_left;
  return PMPI_Comm_free(comm);
}

int MPI_Isend(const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request* request) {
  return Made(PMPI_Isend(data, count, type, to, tag, comm, request), requests_made, requests_left);
}

int MPI_Irecv(void* data, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
              MPI_Request* request) {
  return Made(PMPI_Irecv(data, count, type, from, tag, comm, request), requests_made,
              requests_left);
}

int MPI_Test(MPI_Request* request, int* done, MPI_Status* status) {
  const bool open = *request != MPI_REQUEST_NULL;
  const int code = PMPI_Test(request, done, status);
  if (open && *request == MPI_REQUEST_NULL) --requests_left;
  return code;
}

int MPI_Wait(MPI_Request* request, MPI_Status* status) {
  if (*request != MPI_REQUEST_NULL) --requests_left;
  return PMPI_Wait(request, status);
}

int MPI_Request_free(MPI_Request* request) {
  --requests_left;
  return PMPI_Request_free(request);
}

int MPI_Finalize() {
  std::fprintf(stderr, "mpi handles left: %ld of %ld communicators, %ld of %ld requests\n",
               communicators_left.load(), communicators_made.load(), requests_left.load(),
               requests_made.load());
  return PMPI_Finalize();
}

}  // extern "C"
