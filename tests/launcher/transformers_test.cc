// An export of sm-ln-g is a plain GPT-2: `transformers` loads it and computes the same logits. And a folder that
// transformers could have written, without its own names' prefix, can be read.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "launcher/model_files.h"
#include "model/decoder.h"
#include "tests/support/model_harness.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

// A Python that has torch and transformers: $ENTRAIN_PYTHON or python3.
std::string Python() {
  const char* chosen = std::getenv("ENTRAIN_PYTHON");
  return chosen != nullptr ? chosen : "python3";
}

ProcessResult RunPython(const std::string& arguments) {
  return RunProcess({"/bin/sh", "-c", "exec " + Python() + " " + arguments});
}

TEST(TransformersTest, LogitsOfAnExportAreTheSame) {
  if (RunPython("-c 'import torch, transformers'").code != 0) {
    GTEST_SKIP() << Python()
                 << " has no transformers (tests/interop/requirements.txt; ENTRAIN_PYTHON)";
  }
  TemporaryFolder folder;
  ModelHarness harness(Variants().front().config, {});
  ASSERT_EQ(harness.model().config().architecture, "sm-ln-g");
  harness.Randomize(21);
  harness.model().transformer().BeginStep(harness.context(), false);
  ASSERT_TRUE(WriteModelFolder(FileSystem::Posix(), folder.path() + "/hf", harness.context(),
                               harness.model(), {})
                  .ok());
  const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 9, 7};
  std::string arguments = ENTRAIN_SOURCE_DIR "/tests/interop/transformers_logits.py " +
                          folder.path() + "/hf " + folder.path() + "/logits";
  for (const int32_t token : tokens) arguments += " " + std::to_string(token);
  const ProcessResult result = RunPython(arguments);
  ASSERT_EQ(result.code, 0) << result.error;

  const int64_t vocab = harness.model().config().vocab;
  std::vector<float> theirs(tokens.size() * static_cast<size_t>(vocab));
  std::ifstream file(folder.path() + "/logits", std::ios::binary);
  file.read(reinterpret_cast<char*>(theirs.data()),
            static_cast<std::streamsize>(theirs.size() * sizeof(float)));
  ASSERT_TRUE(file.good());
  Decoder decoder(harness.context(), harness.model());
  for (size_t length = 1; length <= tokens.size(); ++length) {
    decoder.Prefill(std::span(tokens).first(length));
    for (int64_t v = 0; v < vocab; ++v) {
      EXPECT_NEAR(decoder.logits()[static_cast<size_t>(v)],
                  theirs[(length - 1) * static_cast<size_t>(vocab) + static_cast<size_t>(v)], 1e-4)
          << "position " << length - 1 << " token " << v;
    }
  }
}

}  // namespace
}  // namespace entrain
