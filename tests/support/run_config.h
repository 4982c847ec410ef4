// Configuration files for tests of whole commands.
#ifndef ENTRAIN_TESTS_SUPPORT_RUN_CONFIG_H_
#define ENTRAIN_TESTS_SUPPORT_RUN_CONFIG_H_

#include <string>
#include <vector>

#include "launcher/train_config.h"

namespace entrain {

// Writes llm.c tokens drawn from the seed, in [0, vocab).
void WriteTokens(const std::string& path, int64_t count, int64_t vocab, uint64_t seed);

// A run of a small model on `folder`/tokens.bin (written here) into `folder`/run, not shuffled less asked for.
TrainConfig SmallRun(const std::string& folder, const ModelConfig& model);

// Writes the configuration to `folder`/`name` and returns its path.
std::string WriteConfig(const std::string& folder, const std::string& name,
                        const TrainConfig& config);

// Every byte of every file of a checkpoint but the manifest, by name: what must be the same to the bit.
std::vector<std::pair<std::string, std::string>> CheckpointBytes(const std::string& run,
                                                                 int64_t step);

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_RUN_CONFIG_H_
