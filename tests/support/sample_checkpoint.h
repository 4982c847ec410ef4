// SampleCheckpoint: training state whose every bit is a function of the step, so that what is read back can be checked
// without having kept what was saved.
#ifndef ENTRAIN_TESTS_SUPPORT_SAMPLE_CHECKPOINT_H_
#define ENTRAIN_TESTS_SUPPORT_SAMPLE_CHECKPOINT_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/checkpoint.h"
#include "tests/support/local_ranks.h"

namespace entrain {

class SampleCheckpoint {
 public:
  // `width` sets the size: about 8 · width² bytes.
  explicit SampleCheckpoint(int64_t step, int64_t width = 8) : step_(step) {
    Add("h.0.weight", {width, 2 * width});
    Add("h.0.bias", {2 * width});
    Add("scale", {});
    Add("none", {0, 3});
  }

  CheckpointContents Contents() {
    CheckpointContents contents;
    contents.step = step_;
    contents.state_json = StateJson(step_);
    contents.config_toml = absl::StrCat("[train]\nsteps = ", step_, "\n");
    contents.tensors = Tensors();
    return contents;
  }

  std::vector<StateTensor> Tensors() {
    std::vector<StateTensor> tensors;
    for (Values& values : values_) {
      tensors.push_back(WholeTensor(values.name, values.shape, values.data.data()));
    }
    return tensors;
  }

  // What rank `rank` of `ranks` gives to a save: columns of each half of the matrix and of the bias; the last one the scalar.
  CheckpointContents ContentsOf(int rank, int ranks) {
    CheckpointContents contents;
    contents.step = step_;
    if (rank == 0) contents = Contents();
    contents.tensors.clear();
    for (const Values& values : values_) {
      if (values.shape.empty() && rank < ranks - 1) continue;
      contents.tensors.push_back(PartOf(values, rank, ranks));
    }
    return contents;
  }

  // Opens the checkpoint at `path`: "" when it is exactly the sample of `step`, else what is not.
  static std::string Difference(FileSystem& fs, const std::string& path, int64_t step,
                                int64_t width = 8) {
    const absl::StatusOr<CheckpointReader> reader = CheckpointReader::Open(fs, path);
    if (!reader.ok()) return reader.status().ToString();
    SampleCheckpoint found(-1, width);
    const absl::Status read = reader->Read(found.Tensors());
    if (!read.ok()) return read.ToString();
    if (reader->step() != step) return absl::StrCat("step ", reader->step(), ", not ", step);
    if (reader->state_json() != StateJson(step)) return "another state.json";
    const SampleCheckpoint expected(step, width);
    for (size_t i = 0; i < found.values_.size(); ++i) {
      const Values& a = found.values_[i];
      const Values& b = expected.values_[i];
      if (std::memcmp(a.data.data(), b.data.data(), a.bytes()) != 0)
        return absl::StrCat("other bits in ", a.name);
    }
    return "";
  }

 private:
  struct Values {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<float> data;  // at least one element, so that there is an address
    int64_t elements = 0;

    size_t bytes() const { return static_cast<size_t>(elements) * sizeof(float); }
  };

  static std::string StateJson(int64_t step) {
    return absl::StrCat("{\"step\": ", step, ", \"seed\": 7}");
  }

  StateTensor PartOf(const Values& values, int rank, int ranks) {
    StateTensor part{.name = values.name, .global_shape = values.shape};
    if (!values.shape.empty() && values.shape.back() % 2 == 0) {
      part.view = values.shape;
      part.view.back() = 2;
      part.view.push_back(values.shape.back() / 2);
    }
    const TensorBox whole = TensorBox::Whole(part.viewed_shape());
    part.box = whole;
    if (!whole.shape.empty()) {
      const auto range = EvenRanges(whole.shape.back(), ranks)[static_cast<size_t>(rank)];
      part.box.begin.back() = range.begin;
      part.box.shape.back() = range.size();
    }
    parts_.emplace_back(static_cast<size_t>(part.box.elements()) + 1);
    part.data = parts_.back().data();
    CopyCommon(whole, reinterpret_cast<const std::byte*>(values.data.data()), part.box, part.data);
    return part;
  }

  void Add(const std::string& name, std::vector<int64_t> shape) {
    Values values{name, std::move(shape), {}, 1};
    for (const int64_t size : values.shape) values.elements *= size;
    values.data.resize(static_cast<size_t>(values.elements) + 1);
    auto bits =
        static_cast<uint32_t>(step_ * 2654435761 + static_cast<int64_t>(values_.size()) * 97);
    for (float& value : values.data) {
      bits = bits * 1664525 + 1013904223;
      std::memcpy(&value, &bits, sizeof(value));  // NaNs and infinities too
    }
    values_.push_back(std::move(values));
  }

  int64_t step_;
  std::vector<Values> values_;
  std::vector<std::vector<float>> parts_;  // what ContentsOf points to
};

// Saves the sample of `step` from `ranks` threads; every rank's status.
inline std::vector<absl::Status> SaveSampleFromRanks(FileSystem& fs, const std::string& folder,
                                                     int ranks, int64_t step,
                                                     const RetentionPolicy& retention,
                                                     std::string* warning = nullptr) {
  std::vector<absl::Status> statuses(static_cast<size_t>(ranks));
  RunLocalRanks(ranks, [&](Communicator& world) {
    SampleCheckpoint sample(step);
    statuses[static_cast<size_t>(world.rank())] =
        CheckpointStore(fs, folder)
            .Save(world, sample.ContentsOf(world.rank(), ranks), retention,
                  world.rank() == 0 ? warning : nullptr)
            .status();
  });
  return statuses;
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_SAMPLE_CHECKPOINT_H_
