// The CPU backend of attention: entry points, and the geometry that its three parts share.
//
// Data flow of one (sequence, head) pair, a task of one thread: k and v (and in the backward dk,
// dv) are copied once into dense fp32 scratch of width padded to whole vectors; then each block of
// 64 queries goes over the blocks of 64 keys at or before it, one 64×64 tile of transposed scores
// at a time (attention_tile_cpu.h). Nothing is larger than O(T·D).
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_CPU_H_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_CPU_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "runtime/device/buffer.h"
#include "runtime/device/parallel_for.h"
#include "runtime/kernels/attention.h"
#include "runtime/kernels/attention_tile_cpu.h"

namespace entrain::cpu {

void AttentionForward(Context& context, const AttentionForwardArgs& args);
void AttentionBackward(Context& context, const AttentionBackwardArgs& args);
void AttentionDecode(Context& context, const AttentionDecodeArgs& args);

// Sizes of qkv [B, T, 3, H, D] and where a (sequence, head) pair lies in it. `pair` = b·H + h.
struct AttentionShape {
  int64_t batch;
  int64_t length;
  int64_t heads;
  int64_t width;

  explicit AttentionShape(const TensorView& qkv)
      : batch(qkv.dim(0)), length(qkv.dim(1)), heads(qkv.dim(3)), width(qkv.dim(4)) {}

  int64_t pairs() const { return batch * heads; }
  int64_t padded_width() const { return attention::PaddedWidth(width); }
  // Rows of a buffer that whole blocks of keys are read from or added to.
  int64_t padded_length() const {
    return (length + attention::kBlock - 1) / attention::kBlock * attention::kBlock;
  }
  // Distance between positions in qkv (out): elements.
  int64_t qkv_stride() const { return 3 * heads * width; }
  int64_t out_stride() const { return heads * width; }
  // First element of the pair's q; k and v follow at out_stride() and twice that.
  int64_t QueryOffset(int64_t pair) const {
    return (pair / heads) * length * qkv_stride() + (pair % heads) * width;
  }
  int64_t OutOffset(int64_t pair) const {
    return (pair / heads) * length * out_stride() + (pair % heads) * width;
  }
};

// The queries of one head, with their temperatures t: one number for each position, or the same for
// all.
class HeadQueries {
 public:
  HeadQueries(const AttentionShape& shape, const TensorView& temperature, int64_t head)
      : shape_(shape), root_width_(std::sqrt(static_cast<double>(shape.width))) {
    if (!temperature) return;
    per_query_ = temperature.num_dims() == 2;
    temperature_ = temperature.data<float>() + head * (per_query_ ? temperature.dim(1) : 1);
  }

  float Temperature(int64_t position) const {
    return temperature_ == nullptr ? 1.0F : temperature_[per_query_ ? position : 0];
  }
  // What q·k is multiplied by: 1/(t√D).
  float Factor(int64_t position) const {
    return static_cast<float>(1.0 / (Temperature(position) * root_width_));
  }
  // The same for an exponent of 2: log2(e)/(t√D). Its error is an error of the temperature: rounded once.
  float Scale(int64_t position) const {
    return static_cast<float>(std::numbers::log2e / (Temperature(position) * root_width_));
  }

  // The `count` queries from position `begin` on, as rows of the padded width, zero beyond `count`, and transposed. `q`:
  // the head's first query in qkv.
  template <typename T>
  void Pack(const T* q, int64_t begin, int64_t count, float* rows, float* columns) const {
    const int64_t width = shape_.padded_width();
    for (int64_t i = 0; i < count; ++i) {
      attention::PackRow(q + (begin + i) * shape_.qkv_stride(), shape_.width, rows + i * width);
    }
    std::fill(rows + count * width, rows + attention::kBlock * width, 0.0F);
    attention::TransposeBlock(rows, count, width, columns);
  }

 private:
  const AttentionShape& shape_;
  double root_width_;
  const float* temperature_ = nullptr;
  bool per_query_ = false;
};

// Copies a head's keys and values into rows of the padded width; zero beyond the last position.
// `q`: the head's first query in qkv.
template <typename T>
void PackKeysAndValues(const AttentionShape& shape, const T* q, float* keys, float* values) {
  const int64_t width = shape.padded_width();
  for (int64_t j = 0; j < shape.length; ++j) {
    const T* key = q + j * shape.qkv_stride() + shape.out_stride();
    attention::PackRow(key, shape.width, keys + j * width);
    attention::PackRow(key + shape.out_stride(), shape.width, values + j * width);
  }
  const int64_t end = shape.padded_length() * width;
  std::fill(keys + shape.length * width, keys + end, 0.0F);
  std::fill(values + shape.length * width, values + end, 0.0F);
}

// Scratch of the threads, kept in the context: the pieces of one thread lie together.
class AttentionScratch {
 public:
  // `floats` for each of `workers`; what an earlier call returned is lost.
  void Reserve(int64_t workers, int64_t floats) {
    floats_ = Buffer::Aligned(floats * kFloat) / kFloat;
    if (workers * floats_ * kFloat > buffer_.bytes()) buffer_ = Buffer(workers * floats_ * kFloat);
  }
  float* Worker(int64_t worker) const {
    return static_cast<float*>(buffer_.data()) + worker * floats_;
  }

 private:
  static constexpr int64_t kFloat = sizeof(float);
  Buffer buffer_;
  int64_t floats_ = 0;
};

// Cuts one thread's scratch into pieces at multiples of 64 bytes.
class ScratchCutter {
 public:
  explicit ScratchCutter(float* begin) : next_(begin) {}
  float* Take(int64_t floats) {
    float* piece = next_;
    next_ += Buffer::Aligned(floats * static_cast<int64_t>(sizeof(float))) /
             static_cast<int64_t>(sizeof(float));
    return piece;
  }

 private:
  float* next_;
};

// Calls task(scratch, i) for i in [0, num_tasks), with `floats` of scratch that tasks of one thread
// use in turn: a task must not rely on what it finds there.
template <typename Task>
void ParallelForWithScratch(Context& context, int64_t num_tasks, int64_t floats, Task&& task) {
  const int64_t workers = std::min<int64_t>(context.num_threads(), num_tasks);
  auto& scratch = context.Cache<AttentionScratch>();
  scratch.Reserve(workers, floats);
  ParallelFor(context, workers, [&](int64_t worker) {
    const int64_t end = num_tasks * (worker + 1) / workers;
    for (int64_t i = num_tasks * worker / workers; i < end; ++i) task(scratch.Worker(worker), i);
  });
}

}  // namespace entrain::cpu

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_CPU_H_
