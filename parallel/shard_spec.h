// ShardSpec: which part of a tensor a rank holds.
#ifndef ENTRAIN_PARALLEL_SHARD_SPEC_H_
#define ENTRAIN_PARALLEL_SHARD_SPEC_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/tensor_box.h"

namespace entrain {

// One rank's place among those that share a tensor.
struct ShardPlace {
  int rank = 0;
  int ranks = 1;
};

struct ShardSpec {
  std::vector<int64_t> shape;  // of the whole tensor, one or two dims
  // The shape that is cut: the same elements in the same order. [C, 3C] is cut as [C, 3, C], so that each of q, k and v is.
  std::vector<int64_t> view;
  TensorBox box;  // of the view: what this rank holds, dense in row-major order
  int ranks =
      1;  // that share the tensor, each with another part; some parts may be all of it or nothing

  static ShardSpec Whole(std::vector<int64_t> shape);
  // Dim `dim` in `groups` equal parts, each cut evenly over the ranks. CHECK: it divides.
  static ShardSpec Cut(std::vector<int64_t> shape, int dim, const ShardPlace& place,
                       int64_t groups = 1);
  // Rows [begin, begin + count) of dim 0, cut off at the tensor's end; one of `ranks` parts.
  static ShardSpec Rows(std::vector<int64_t> shape, int64_t begin, int64_t count, int ranks);

  bool is_cut() const { return ranks > 1; }
  int64_t elements() const { return box.elements(); }
  int64_t whole_elements() const;
  // The shard as a tensor of as many dims as the whole: [C, 3, C/tp] as [C, 3C/tp].
  std::vector<int64_t> LocalShape() const;

  // body(local, whole, count): elements [local, local + count) of the shard are [whole, whole + count) of the flattened
  // tensor. Ascending, each as long as possible.
  void ForEachRun(
      const std::function<void(int64_t local, int64_t whole, int64_t count)>& body) const;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_SHARD_SPEC_H_
