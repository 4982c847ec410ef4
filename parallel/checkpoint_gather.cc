#include "parallel/checkpoint_gather.h"

#include <string>
#include <unordered_map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "parallel/checkpoint_folder.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

// An index that tensors are added to, whether or not it has pieces of them already.
class IndexBuilder {
 public:
  explicit IndexBuilder(int64_t step) { index_.step = step; }

  // "" or how the tensor differs from what is known of it.
  std::string Add(const IndexedTensor& tensor) {
    const auto [at, is_new] = place_.try_emplace(tensor.name, index_.tensors.size());
    if (is_new) {
      index_.tensors.push_back(tensor);
      return "";
    }
    IndexedTensor& known = index_.tensors[at->second];
    if (known.shape != tensor.shape || known.viewed_shape() != tensor.viewed_shape()) {
      return absl::StrCat("tensor '", tensor.name, "' is ", Text(known), " and ", Text(tensor));
    }
    known.pieces.insert(known.pieces.end(), tensor.pieces.begin(), tensor.pieces.end());
    return "";
  }

  TensorIndex Take() { return std::move(index_); }

 private:
  static std::string Text(const IndexedTensor& tensor) {
    return absl::StrCat(FormatShape(tensor.shape), " viewed as ",
                        FormatShape(tensor.viewed_shape()));
  }

  TensorIndex index_;
  std::unordered_map<std::string, size_t> place_;
};

TensorIndex IndexOfRank(const CheckpointContents& contents, const std::string& shard) {
  IndexBuilder builder(contents.step);
  for (const StateTensor& tensor : contents.tensors) {
    CheckStateTensor(tensor);
    IndexedTensor indexed{tensor.name, "F32", tensor.global_shape, tensor.view, {}};
    if (tensor.box.elements() > 0) indexed.pieces.push_back({shard, tensor.box});
    const std::string fault = builder.Add(indexed);
    CHECK(fault.empty()) << fault;
  }
  return builder.Take();
}

absl::StatusOr<TensorIndex> Merge(const std::vector<std::string>& texts) {
  std::optional<IndexBuilder> all;
  int64_t step = 0;
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    ASSIGN_OR_RETURN(const TensorIndex part, ParsePartialTensorIndex(texts[rank]));
    if (!all) {
      step = part.step;
      all.emplace(step);
    }
    std::string fault;
    if (part.step != step) fault = absl::StrCat("rank 0 saves step ", step, ", it ", part.step);
    for (const IndexedTensor& tensor : part.tensors) {
      if (fault.empty()) fault = all->Add(tensor);
    }
    if (!fault.empty()) return absl::InternalError(absl::StrCat("of rank ", rank, ": ", fault));
  }
  TensorIndex index = all->Take();
  RETURN_IF_ERROR(CheckTensorIndex(&index));
  return index;
}

}  // namespace

absl::StatusOr<TensorIndex> GatherTensorIndex(Communicator& world,
                                              const CheckpointContents& contents) {
  const std::string shard = ShardName(world.rank(), world.size());
  const std::vector<std::string> texts = world.GatherText(
      FormatTensorIndex(IndexOfRank(contents, shard)), "the tensors of a checkpoint");
  absl::StatusOr<TensorIndex> index = TensorIndex();
  if (world.rank() == 0) index = Merge(texts);
  absl::Status status = index.status();
  if (!status.ok()) {
    status = absl::InternalError(
        absl::StrCat("the ranks' tensors are not a checkpoint: ", status.message()));
  }
  RETURN_IF_ERROR(world.Agree(status, "the tensors of a checkpoint"));
  return index;
}

std::vector<ManifestFile> GatherShards(Communicator& world,
                                       const std::optional<ManifestFile>& mine) {
  std::string text;
  if (mine) text = absl::StrCat(mine->bytes, " ", mine->checksum);
  const std::vector<std::string> texts = world.GatherText(text, "the shards of a checkpoint");
  std::vector<ManifestFile> shards;
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    if (texts[rank].empty()) continue;
    ManifestFile shard{.name = ShardName(static_cast<int>(rank), world.size())};
    const std::pair<std::string, std::string> fields = absl::StrSplit(texts[rank], ' ');
    CHECK(absl::SimpleAtoi(fields.first, &shard.bytes)) << texts[rank];
    shard.checksum = fields.second;
    shards.push_back(std::move(shard));
  }
  return shards;
}

}  // namespace entrain
