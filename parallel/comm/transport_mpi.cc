#include "parallel/comm/transport_mpi.h"

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/comm/rank_failure.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

std::string FirstLine(const std::string& text) { return text.substr(0, text.find_first_of(",\n")); }

std::string MpiVersion() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  return FirstLine(std::string(text, static_cast<size_t>(length)));
}

// Cores in the affinity mask of any rank of `node`.
int CoresOfAll(MPI_Comm node) {
  cpu_set_t mine;
  cpu_set_t all;
  CPU_ZERO(&mine);
  CPU_ZERO(&all);
  if (sched_getaffinity(0, sizeof(mine), &mine) != 0) CPU_ZERO(&mine);
  MPI_Allreduce(&mine, &all, sizeof(mine), MPI_BYTE, MPI_BOR, node);
  return CPU_COUNT(&all);
}

// Of the processes that share `node`, those with which this one shares numbers: containers have their own.
PeerProcesses FindPeers(MPI_Comm node, int local_size) {
  struct Entry {
    RankProcess process;
    ino_t numbering = 0;
  };
  Entry mine{.process = {.rank = 0, .process = getpid()}};
  MPI_Comm_rank(MPI_COMM_WORLD, &mine.process.rank);
  struct stat numbering {};
  if (stat("/proc/self/ns/pid", &numbering) == 0) mine.numbering = numbering.st_ino;
  std::vector<Entry> all(static_cast<size_t>(local_size));
  MPI_Allgather(&mine, sizeof(mine), MPI_BYTE, all.data(), sizeof(mine), MPI_BYTE, node);
  std::vector<RankProcess> here;
  for (const Entry& entry : all) {
    if (entry.numbering == mine.numbering) here.push_back(entry.process);
  }
  return {mine.process.rank, here};
}

// Sets the world's `place` and `peers`.
void FindPlace(MpiWorld* world) {
  NodePlace& place = world->place;
  char host[MPI_MAX_PROCESSOR_NAME];
  int length = 0;
  MPI_Get_processor_name(host, &length);
  place.host.assign(host, static_cast<size_t>(length));
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  MPI_Comm_rank(node, &place.local_rank);
  MPI_Comm_size(node, &place.local_size);
  place.cores = CoresOfAll(node);
  world->peers = FindPeers(node, place.local_size);
  MPI_Comm_free(&node);
}

class MpiTransport final : public Transport {
 public:
  explicit MpiTransport(std::string host) : host_(std::move(host)) {
    // Of our own: nobody else's messages can be mistaken for ours, and errors come back to be told.
    MPI_Comm_dup(MPI_COMM_WORLD, &comm_);
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  ~MpiTransport() override {
    CHECK(requests_.empty()) << "MPI ended before its messages";
    MPI_Comm_free(&comm_);
    MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string Describe() const override {
    return absl::StrCat(rank_, " of ", size_, " on ", host_);
  }

  Message Send(int to, int tag, const void* data, int64_t bytes) override {
    CHECK_LE(bytes, kMaxMessageBytes);
    MPI_Request request = MPI_REQUEST_NULL;
    Verify(MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, to, tag, comm_, &request), "send to",
           to);
    return Remember(request);
  }

  Message Receive(int from, int tag, void* data, int64_t bytes) override {
    CHECK_LE(bytes, kMaxMessageBytes);
    MPI_Request request = MPI_REQUEST_NULL;
    Verify(MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, from, tag, comm_, &request),
           "receive from", from);
    return Remember(request);
  }

  bool Done(Message message) override {
    const auto at = requests_.find(message);
    CHECK(at != requests_.end()) << "message " << message << " is not under way";
    int done = 0;
    Verify(MPI_Test(&at->second, &done, MPI_STATUS_IGNORE), "complete a message, rank", rank_);
    if (done == 0) return false;
    requests_.erase(at);
    return true;
  }

 private:
  Message Remember(MPI_Request request) {
    requests_[next_] = request;
    return next_++;
  }

  void Verify(int code, const char* action, int peer) const {
    if (code == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(code, text, &length);
    FailRank(Describe(), absl::StrCat("MPI cannot ", action, " ", peer, ": ",
                                      std::string(text, static_cast<size_t>(length))));
  }

  std::string host_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  Message next_ = 0;
  std::unordered_map<Message, MPI_Request> requests_;
};

}  // namespace

absl::StatusOr<MpiWorld> JoinMpiWorld() {
  int provided = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS) {
    return absl::UnavailableError("MPI_Init failed; see MPI's own message above");
  }
  if (provided < MPI_THREAD_SERIALIZED) {
    const std::string version = MpiVersion();
    MPI_Finalize();
    return absl::FailedPreconditionError(absl::StrCat(
        version,
        " was built without threads (MPI_THREAD_SERIALIZED is needed); use another build"));
  }
  MpiWorld world;
  FindPlace(&world);
  world.transport = std::make_unique<MpiTransport>(world.place.host);
  world.version = MpiVersion();
  return world;
}

}  // namespace entrain
