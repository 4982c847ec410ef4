// TrainState: the one list of what must be saved so that training continues to the bit. Everything else is a pure function
// of it and of the configuration.
#ifndef ENTRAIN_LAUNCHER_TRAIN_STATE_H_
#define ENTRAIN_LAUNCHER_TRAIN_STATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/train_config.h"
#include "model/model.h"
#include "parallel/adamw_optimizer.h"
#include "parallel/checkpoint.h"
#include "parallel/mesh.h"

namespace entrain {

// What is not a tensor. The position in the data is the step: batches are a pure function of (seed, step, position).
struct TrainCounters {
  int64_t step = 0;     // steps done
  int64_t updates = 0;  // optimizer updates among them: without the skipped ones
  int64_t bad_steps_in_a_row = 0;
  int64_t bad_steps = 0;
  int64_t tokens = 0;
  bool has_previous_entropy = false;
  uint64_t seed = 0;
  int64_t global_batch = 0;
  bool shuffle = true;
  std::string data_fingerprint;
  std::string precision;
  std::vector<std::vector<double>>
      head_entropy;  // mean of each head over the last step's batch, [L][H]
};

std::string ToJson(const TrainCounters& counters);
absl::StatusOr<TrainCounters> ParseTrainCounters(const std::string& json, const std::string& path);

// What this rank holds: master weights under their names in an export, spectral u, previous step's entropies.
std::vector<StateTensor> ModelState(Model& model);
// The same and the moments.
std::vector<StateTensor> FullState(Model& model, const AdamWOptimizer& optimizer);
// What this rank writes of it: its range over dp, so that all ranks write at once. Over the mesh each element comes once.
std::vector<StateTensor> StateToWrite(Model& model, const AdamWOptimizer& optimizer,
                                      const Mesh& mesh);
// Bytes of that on the one of `dp` ranks that writes most; the model needs no memory yet.
int64_t MostBytesToWrite(Model& model, int dp);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TRAIN_STATE_H_
