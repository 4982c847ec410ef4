// OwnedRanges: which part of the flat buffers each dp rank updates and saves.
//
// dp ranks hold the same parameters. With ZeRO stage 1 each updates a range of them and holds the moments of that range
// alone; with or without it each writes its range to a checkpoint, so that all write at once. Ranges are as even as whole rows
// of parameters allow: a row is what dim 0 of a shard counts (ShardSpec::box), so that what a rank owns of a tensor is a box.
#ifndef ENTRAIN_PARALLEL_OWNED_RANGES_H_
#define ENTRAIN_PARALLEL_OWNED_RANGES_H_

#include <cstdint>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/param_set.h"

namespace entrain {

// Of `ranks` ranks, ascending, covering the flat buffer; a range may be empty.
std::vector<ElementRange> OwnedRanges(const ParamSet& params, int ranks);

// Largest of them, in elements: what a plan reckons with.
int64_t LargestOwned(const ParamSet& params, int ranks);

// What of a parameter lies in a range of the flat buffer.
struct OwnedPart {
  ElementRange flat;  // elements of the flat buffer
  TensorBox
      box;  // of the parameter's view, without padding; empty (no elements) where nothing is left
};
OwnedPart PartOf(const ParamSet& params, ParamId id, const ElementRange& range);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_OWNED_RANGES_H_
