#include "tests/support/run_config.h"

#include "parallel/checkpoint.h"
#include "runtime/base/check.h"
#include "runtime/base/philox.h"
#include "runtime/io/manifest.h"

namespace entrain {

void WriteTokens(const std::string& path, int64_t count, int64_t vocab, uint64_t seed) {
  auto writer = TokenFileWriter::Create(FileSystem::Posix(), path);
  CHECK(writer.ok()) << writer.status().ToString();
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const auto word = Philox(seed, 0, static_cast<uint64_t>(i))[0];
    tokens[static_cast<size_t>(i)] = static_cast<int32_t>(word % static_cast<uint64_t>(vocab));
  }
  CHECK((*writer)->Append(tokens.data(), count).ok());
  CHECK((*writer)->Finish().ok());
}

TrainConfig SmallRun(const std::string& folder, const ModelConfig& model) {
  WriteTokens(folder + "/tokens.bin", 30 * model.context + 1, model.vocab, 11);
  TrainConfig config;
  config.run.dir = folder + "/run";
  config.model = model;
  config.data.train = folder + "/tokens.bin";
  config.data.tokenizer = "byte";
  config.train.steps = 40;
  config.train.global_batch = 4;
  config.train.micro_batch = 2;
  config.train.threads = 1;
  config.optimizer.lr = 3e-3;
  config.optimizer.warmup_steps = 5;
  config.checkpoint.every = 0;
  return config;
}

std::string WriteConfig(const std::string& folder, const std::string& name,
                        const TrainConfig& config) {
  std::string path = folder + "/" + name;
  CHECK(WriteTextAtomically(FileSystem::Posix(), path, ToToml(config)).ok());
  return path;
}

std::vector<std::pair<std::string, std::string>> CheckpointBytes(const std::string& run,
                                                                 int64_t step) {
  FileSystem& fs = FileSystem::Posix();
  const std::string folder = run + "/checkpoints/" + CheckpointName(step);
  const auto entries = fs.List(folder);
  CHECK(entries.ok()) << entries.status().ToString();
  std::vector<std::pair<std::string, std::string>> files;
  for (const DirEntry& entry : *entries) {
    if (entry.name == kManifestName) continue;
    const auto text = fs.ReadText(JoinPath(folder, entry.name));
    CHECK(text.ok()) << text.status().ToString();
    files.emplace_back(entry.name, *text);
  }
  return files;
}

}  // namespace entrain
