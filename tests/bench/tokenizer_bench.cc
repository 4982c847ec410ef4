// Tokenizer speed on the shipped Python text: text bytes a second on one thread.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/data/document_source.h"
#include "runtime/data/json_document.h"
#include "runtime/data/tokenizer.h"
#include "runtime/data/word_splitter.h"

namespace entrain {
namespace {

absl::StatusOr<std::vector<std::string>> LoadTexts() {
  ASSIGN_OR_RETURN(
      DocumentSource source,
      DocumentSource::Open(FileSystem::Posix(),
                           {ENTRAIN_SOURCE_DIR "/configs/demo/pycode-small.jsonl"}, {}));
  std::vector<std::string> texts;
  for (;;) {
    RawDocument raw;
    ASSIGN_OR_RETURN(const bool found, source.Next(&raw));
    if (!found) return texts;
    ASSIGN_OR_RETURN(JsonDocument document, ParseJsonDocument(raw.bytes, "text", ""));
    texts.push_back(std::move(document.text));
  }
}

int64_t TotalBytes(const std::vector<std::string>& texts) {
  int64_t bytes = 0;
  for (const std::string& text : texts) bytes += static_cast<int64_t>(text.size());
  return bytes;
}

// The same text again and again: nearly every word is in the cache, as it is in a large corpus.
void EncodeWarm(benchmark::State& state) {
  const auto texts = LoadTexts();
  auto tokenizer = MakeTokenizer("gpt2");
  if (!texts.ok() || !tokenizer.ok()) return state.SkipWithError("no merges or no text");
  std::vector<int32_t> ids;
  for (auto _ : state) {
    ids.clear();
    for (const std::string& text : *texts) (*tokenizer)->Encode(text, &ids);
    benchmark::DoNotOptimize(ids.data());
  }
  state.SetBytesProcessed(state.iterations() * TotalBytes(*texts));
}
BENCHMARK(EncodeWarm)->Unit(benchmark::kMillisecond);

// Every pass begins with an empty cache.
void EncodeCold(benchmark::State& state) {
  const auto texts = LoadTexts();
  auto tokenizer = MakeTokenizer("gpt2");
  if (!texts.ok() || !tokenizer.ok()) return state.SkipWithError("no merges or no text");
  std::vector<int32_t> ids;
  for (auto _ : state) {
    state.PauseTiming();
    const std::unique_ptr<Tokenizer> fresh = (*tokenizer)->Clone();
    ids.clear();
    state.ResumeTiming();
    for (const std::string& text : *texts) fresh->Encode(text, &ids);
    benchmark::DoNotOptimize(ids.data());
  }
  state.SetBytesProcessed(state.iterations() * TotalBytes(*texts));
}
BENCHMARK(EncodeCold)->Unit(benchmark::kMillisecond);

// The share of PCRE2 alone.
void SplitWords(benchmark::State& state) {
  const auto texts = LoadTexts();
  if (!texts.ok()) return state.SkipWithError("no merges or no text");
  WordSplitter splitter;
  for (auto _ : state) {
    int64_t words = 0;
    for (const std::string& text : *texts) {
      splitter.Reset(text);
      for (std::string_view word; splitter.Next(&word);) ++words;
    }
    benchmark::DoNotOptimize(words);
  }
  state.SetBytesProcessed(state.iterations() * TotalBytes(*texts));
}
BENCHMARK(SplitWords)->Unit(benchmark::kMillisecond);

void Decode(benchmark::State& state) {
  const auto texts = LoadTexts();
  auto tokenizer = MakeTokenizer("gpt2");
  if (!texts.ok() || !tokenizer.ok()) return state.SkipWithError("no merges or no text");
  std::vector<int32_t> ids;
  for (const std::string& text : *texts) (*tokenizer)->Encode(text, &ids);
  for (auto _ : state) {
    auto text = (*tokenizer)->Decode(ids);
    benchmark::DoNotOptimize(text);
  }
  state.SetBytesProcessed(state.iterations() * TotalBytes(*texts));
}
BENCHMARK(Decode)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace entrain

BENCHMARK_MAIN();
