// Collectives between two ranks beside MPI's own, and how much of a large one a computation hides.
//
//   mpirun -n 2 --bind-to none build/tests/comm_bench [MEGABYTES [ROUNDS]]
//
// What is compared is measured in turn, a round after another, so that a noisy machine hits all alike; medians of the slowest
// rank's times.
#include <unistd.h>

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator_host.h"
#include "parallel/comm/ordered_reduce.h"
#include "parallel/comm/transport_mpi.h"
#include "runtime/base/check.h"
#include "runtime/device/buffer.h"
#include "runtime/device/context.h"
#include "runtime/kernels/matmul.h"
#include "runtime/tensor/dtype.h"

namespace entrain {
namespace {

using Clock = std::chrono::steady_clock;
using Body = std::function<void()>;

double Seconds(const Body& body) {
  const auto start = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double SlowestRank(double seconds) {
  MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return seconds;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// A transport that several communicators use in turn: MPI ends with its owner.
class Borrowed final : public Transport {
 public:
  explicit Borrowed(Transport& owner) : owner_(owner) {}
  int rank() const override { return owner_.rank(); }
  int size() const override { return owner_.size(); }
  std::string Describe() const override { return owner_.Describe(); }
  Message Send(int to, int tag, const void* data, int64_t bytes) override {
    return owner_.Send(to, tag, data, bytes);
  }
  Message Receive(int from, int tag, void* data, int64_t bytes) override {
    return owner_.Receive(from, tag, data, bytes);
  }
  bool Done(Message message) override { return owner_.Done(message); }

 private:
  Transport& owner_;
};

std::unique_ptr<Communicator> Make(Transport& transport, int progress_microseconds) {
  return MakeHostCommunicator(std::make_unique<Borrowed>(transport),
                              {.progress_microseconds = progress_microseconds});
}

// MPI has no bf16: pairs of vectors by the arithmetic that ours are summed with.
void SumBf16(void* in, void* inout, int* count, MPI_Datatype* /*type*/) {
  OrderedReduce(ReduceOp::kSum, DType::kBf16, {in, inout}, inout, *count);
}

// A vector of zeros in memory that was touched: summed over and over, it stays what it is.
class Vector {
 public:
  Vector(int64_t bytes, DType dtype)
      : buffer_(bytes), view_(buffer_.data(), dtype, {bytes / SizeOf(dtype)}) {
    std::fill_n(static_cast<volatile char*>(buffer_.data()), bytes, '\0');
  }
  const TensorView& view() const { return view_; }
  void* data() const { return buffer_.data(); }
  int count() const { return static_cast<int>(view_.size()); }

 private:
  Buffer buffer_;
  TensorView view_;
};

// ---- one collective beside MPI's ----

struct Contest {
  std::string name;
  int64_t bytes;
  int times;  // in a measurement: small ones are too short for one
  Body ours;
  Body theirs;
  double target;  // of ours / theirs; 0: none
};

void Compare(const Contest& contest, int rounds, bool speaks) {
  auto measure = [&](const Body& body) {
    MPI_Barrier(MPI_COMM_WORLD);
    const double seconds = Seconds([&] {
      for (int i = 0; i < contest.times; ++i) body();
    });
    return SlowestRank(seconds) / contest.times;
  };
  std::vector<double> ours;
  std::vector<double> theirs;
  for (int round = -1; round < rounds; ++round) {
    const double mine = measure(contest.ours);
    const double mpis = measure(contest.theirs);
    if (round < 0) continue;  // first touches, connections
    ours.push_back(mine);
    theirs.push_back(mpis);
  }
  if (!speaks) return;
  std::printf("%-28s %10.1f KB %10.3f ms %10.3f ms %7.2f", contest.name.c_str(),
              static_cast<double>(contest.bytes) / 1e3, Median(ours) * 1e3, Median(theirs) * 1e3,
              Median(ours) / Median(theirs));
  if (contest.target > 0.0) std::printf("   at most %.1f", contest.target);
  std::printf("\n");
}

void CompareAll(Communicator& world, int64_t bytes, int rounds) {
  constexpr int64_t kStatisticsBytes = 4096;
  const Vector f32(bytes, DType::kF32);
  const Vector bf16(bytes, DType::kBf16);
  const Vector small(kStatisticsBytes, DType::kF64);
  const std::vector<ElementRange> ranges = EvenRanges(f32.count(), world.size());
  const int part = f32.count() / world.size();
  MPI_Op sum_bf16 = MPI_OP_NULL;
  MPI_Op_create(SumBf16, /*commute=*/1, &sum_bf16);
  const std::vector<Contest> contests = {
      {"all_reduce f32", bytes, 1, [&] { world.AllReduce(f32.view(), ReduceOp::kSum, "f32"); },
       [&] {
         MPI_Allreduce(MPI_IN_PLACE, f32.data(), f32.count(), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
       },
       1.3},
      {"reduce_scatter f32", bytes, 1, [&] { world.ReduceScatter(f32.view(), ranges, "f32"); },
       [&] {
         MPI_Reduce_scatter_block(MPI_IN_PLACE, f32.data(), part, MPI_FLOAT, MPI_SUM,
                                  MPI_COMM_WORLD);
       },
       0.0},
      {"all_gather f32", bytes, 1, [&] { world.AllGather(f32.view(), ranges, "f32"); },
       [&] {
         MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, f32.data(), part, MPI_FLOAT,
                       MPI_COMM_WORLD);
       },
       0.0},
      {"all_reduce bf16", bytes, 1, [&] { world.AllReduce(bf16.view(), ReduceOp::kSum, "bf16"); },
       [&] {
         MPI_Allreduce(MPI_IN_PLACE, bf16.data(), bf16.count(), MPI_UINT16_T, sum_bf16,
                       MPI_COMM_WORLD);
       },
       0.0},
      {"all_reduce f64 (statistics)", kStatisticsBytes, 200,
       [&] { world.AllReduce(small.view(), ReduceOp::kSum, "f64"); },
       [&] {
         MPI_Allreduce(MPI_IN_PLACE, small.data(), small.count(), MPI_DOUBLE, MPI_SUM,
                       MPI_COMM_WORLD);
       },
       0.0}};
  if (world.rank() == 0) {
    std::printf("%-28s %13s %13s %13s %7s\n", "collective", "size", "ours", "MPI's", "ratio");
  }
  for (const Contest& contest : contests) Compare(contest, rounds, world.rank() == 0);
  MPI_Op_free(&sum_bf16);
}

// ---- what a computation hides ----

// A computation of about 300 ms on one thread, in pieces of about 10.
class Computation {
 public:
  explicit Computation(Context& context) : context_(context), a_(kBytes), b_(kBytes), out_(kBytes) {
    Piece();
    const double piece = SlowestRank(Seconds([&] {
                                       for (int i = 0; i < 10; ++i) Piece();
                                     }) /
                                     10.0);
    pieces_ = std::max(1, static_cast<int>(0.3 / piece));
  }

  void Run(const Body& between) {
    for (int i = 0; i < pieces_; ++i) {
      Piece();
      between();
    }
  }
  int pieces() const { return pieces_; }

 private:
  static constexpr int64_t kSide = 800;
  static constexpr int64_t kBytes = kSide * kSide * int64_t{sizeof(float)};

  void Piece() {
    auto matrix = [](const Buffer& buffer) {
      return TensorView(buffer.data(), DType::kF32, {kSide, kSide});
    };
    Matmul(context_, {.a = matrix(a_), .b = matrix(b_), .out = matrix(out_)});
  }

  Context& context_;
  Buffer a_;
  Buffer b_;
  Buffer out_;
  int pieces_ = 1;
};

// A way to have a collective under way during a computation.
struct Course {
  std::string name;
  Body start;
  Body between;  // pieces of the computation
  Body wait;
  std::vector<double> computing = {};
  std::vector<double> exposed = {};
};

Body Nothing() {
  return [] {};
}

Course Ours(const std::string& name, Communicator& world, const TensorView& x, bool polls,
            PendingCollective& pending) {
  return {name,
          [&world, &x, &pending] { pending = world.StartAllReduce(x, ReduceOp::kSum, "f32"); },
          polls ? Body([&world] { world.Poll(); }) : Nothing(), [&pending] { pending.Wait(); }};
}

Course Theirs(const std::string& name, const Vector& x, bool polls, MPI_Request& request) {
  return {name,
          [&x, &request] {
            MPI_Iallreduce(MPI_IN_PLACE, x.data(), x.count(), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD,
                           &request);
          },
          polls ? Body([&request] {
            int done = 0;
            MPI_Test(&request, &done, MPI_STATUS_IGNORE);
          })
                : Nothing(),
          [&request] { MPI_Wait(&request, MPI_STATUS_IGNORE); }};
}

void Measure(Course& course, Computation& computation, bool counts) {
  MPI_Barrier(MPI_COMM_WORLD);
  const double computing = Seconds([&] {
    course.start();
    computation.Run(course.between);
  });
  const double exposed = Seconds(course.wait);
  const double slowest = SlowestRank(computing);
  const double longest = SlowestRank(exposed);
  if (!counts) return;
  course.computing.push_back(slowest);
  course.exposed.push_back(longest);
}

void PrintCourses(const std::vector<Course>& courses, const Computation& computation) {
  const double alone = Median(courses[0].computing);
  std::printf("\n%-44s %12s %12s %12s\n", "under way during a computation", "exposed", "computing",
              "longer by");
  for (const Course& course : courses) {
    const double computing = Median(course.computing);
    std::printf("%-44s %9.1f ms %9.1f ms %9.1f ms\n", course.name.c_str(),
                Median(course.exposed) * 1e3, computing * 1e3, (computing - alone) * 1e3);
  }
  std::printf(
      "the computation: %d matrix products on one thread; the sum's start is counted with it\n",
      computation.pieces());
}

void MeasureHiding(Context& context, Transport& transport, int64_t bytes, int rounds) {
  const Vector x(bytes, DType::kF32);
  const TensorView view = x.view();
  const auto plain = Make(transport, 0);
  const auto often = Make(transport, 200);
  const auto rarely = Make(transport, 1000);
  PendingCollective pending;
  MPI_Request request = MPI_REQUEST_NULL;
  Computation computation(context);
  std::vector<Course> courses = {
      {"no collective", Nothing(), Nothing(), Nothing()},
      Ours("all_reduce, nobody polls", *plain, view, false, pending),
      Ours("all_reduce, Poll between products", *plain, view, true, pending),
      Ours("all_reduce, a thread polls every 200 us", *often, view, false, pending),
      Ours("all_reduce, a thread polls every 1000 us", *rarely, view, false, pending),
      Theirs("MPI_Iallreduce, nobody polls", x, false, request),
      Theirs("MPI_Iallreduce, MPI_Test between products", x, true, request)};
  for (int round = -1; round < rounds; ++round) {
    for (Course& course : courses) Measure(course, computation, round >= 0);
  }
  if (transport.rank() == 0) PrintCourses(courses, computation);
}

int Main(int argc, char** argv) {
  const int64_t bytes = (argc > 1 ? std::max(1, std::atoi(argv[1])) : 64) * int64_t{1'000'000};
  const int rounds = argc > 2 ? std::max(1, std::atoi(argv[2])) : 11;
  auto world = JoinMpiWorld();
  CHECK(world.ok()) << world.status().ToString();
  Transport& transport = *world->transport;
  if (transport.size() != 2) {
    if (transport.rank() == 0) {
      std::fprintf(stderr, "comm_bench: %d ranks; it is for two: mpirun -n 2 --bind-to none %s\n",
                   transport.size(), argv[0]);
    }
    return 2;
  }
  const auto context = Context::CreateCpu(1);
  CHECK(context.ok()) << context.status().ToString();
  if (transport.rank() == 0) {
    std::printf("%s a rank, 2 ranks on %ld cores, %s; medians of %d\n\n",
                (*context)->Description().c_str(), sysconf(_SC_NPROCESSORS_ONLN),
                world->version.c_str(), rounds);
  }
  CompareAll(*Make(transport, 0), bytes, rounds);
  MeasureHiding(**context, transport, bytes, rounds);
  return 0;
}

}  // namespace
}  // namespace entrain

int main(int argc, char** argv) { return entrain::Main(argc, argv); }
