#include "parallel/comm/communicator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

// An error is worse than "saved, to be resubmitted", which is worse than OK.
int Severity(absl::StatusCode code) {
  if (code == absl::StatusCode::kOk) return 0;
  return code == absl::StatusCode::kCancelled ? 1 : 2;
}

constexpr int64_t kWord = sizeof(int32_t);

int64_t WordsOf(int64_t bytes) { return (bytes + kWord - 1) / kWord; }

std::vector<ElementRange> OneEach(int size) { return EvenRanges(size, size); }

}  // namespace

ElementRange Common(const ElementRange& a, const ElementRange& b) {
  const int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

std::vector<ElementRange> EvenRanges(int64_t count, int parts, int64_t alignment) {
  const int64_t blocks = (count + alignment - 1) / alignment;
  std::vector<ElementRange> ranges;
  ranges.reserve(static_cast<size_t>(parts));
  for (int i = 0; i < parts; ++i) {
    ranges.push_back({std::min(count, blocks * i / parts * alignment),
                      std::min(count, blocks * (i + 1) / parts * alignment)});
  }
  return ranges;
}

PendingCollective& PendingCollective::operator=(PendingCollective&& other) noexcept {
  CHECK(!valid()) << "a collective was replaced before it was waited for";
  wait_ = std::exchange(other.wait_, {});
  return *this;
}

PendingCollective::~PendingCollective() {
  CHECK(!valid()) << "a collective was dropped before it was waited for";
}

void PendingCollective::Wait() {
  if (wait_) std::exchange(wait_, {})();
}

void Communicator::Barrier(std::string_view what) {
  int32_t nothing = 0;
  host().AllReduce({&nothing, DType::kI32, {1}}, ReduceOp::kMax, what);
}

void Communicator::BroadcastText(std::string* text, int root, std::string_view what) {
  auto length = static_cast<int32_t>(text->size());
  host().Broadcast({&length, DType::kI32, {1}}, root, what);
  // Whole words: the contract knows no bytes.
  std::vector<int32_t> words(static_cast<size_t>(length) / sizeof(int32_t) + 1);
  auto* bytes = reinterpret_cast<char*>(words.data());
  if (rank() == root) std::copy(text->begin(), text->end(), bytes);
  host().Broadcast({words.data(), DType::kI32, {static_cast<int64_t>(words.size())}}, root, what);
  text->assign(bytes, static_cast<size_t>(length));
}

std::vector<std::string> Communicator::GatherText(std::string_view mine, std::string_view what) {
  const auto me = static_cast<size_t>(rank());
  CHECK_LT(mine.size(), size_t{1} << 31) << "bytes of one text";
  std::vector<int32_t> lengths(static_cast<size_t>(size()));
  lengths[me] = static_cast<int32_t>(mine.size());
  host().AllGather({lengths.data(), DType::kI32, {size()}}, OneEach(size()), what);

  std::vector<ElementRange> ranges;  // in whole words: the contract knows no bytes
  int64_t end = 0;
  for (const int32_t length : lengths) {
    const int64_t begin = end;
    end += WordsOf(length);
    ranges.push_back({begin, end});
  }
  std::vector<int32_t> words(static_cast<size_t>(end));
  auto text_of = [&](size_t r) { return reinterpret_cast<char*>(words.data() + ranges[r].begin); };
  std::copy(mine.begin(), mine.end(), text_of(me));
  if (end > 0) host().AllGather({words.data(), DType::kI32, {end}}, ranges, what);

  std::vector<std::string> texts;
  for (size_t r = 0; r < ranges.size(); ++r) {
    texts.emplace_back(text_of(r), static_cast<size_t>(lengths[r]));
  }
  return texts;
}

absl::Status Communicator::Agree(const absl::Status& mine, std::string_view what) {
  std::vector<int32_t> codes(static_cast<size_t>(size()));
  codes[static_cast<size_t>(rank())] = static_cast<int32_t>(mine.code());
  host().AllGather({codes.data(), DType::kI32, {size()}}, OneEach(size()), what);
  const auto worst = std::max_element(codes.begin(), codes.end(), [](int32_t a, int32_t b) {
    return Severity(static_cast<absl::StatusCode>(a)) < Severity(static_cast<absl::StatusCode>(b));
  });
  const auto code = static_cast<absl::StatusCode>(*worst);
  if (code == absl::StatusCode::kOk || size() == 1) return mine;
  const int from = static_cast<int>(worst - codes.begin());

  std::string message(mine.message());
  BroadcastText(&message, from, what);
  return {code, absl::StrCat(message, " (rank ", from, ")")};
}

void CheckRanges(const TensorView& x, const std::vector<ElementRange>& ranges, int ranks) {
  CHECK(x.dense());
  CHECK_EQ(static_cast<int>(ranges.size()), ranks);
  int64_t end = 0;
  for (const ElementRange& range : ranges) {
    CHECK(end <= range.begin && range.begin <= range.end && range.end <= x.size())
        << "range [" << range.begin << ", " << range.end << ") of " << x.size();
    end = range.end;
  }
}

std::string RanksText(const std::vector<int>& ranks) {
  constexpr size_t kShown = 8;
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < std::min(ranks.size(), kShown); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ", ", ranks[i]);
  }
  if (ranks.size() > kShown) absl::StrAppend(&text, " and ", ranks.size() - kShown, " more");
  return text;
}

std::string Describe(const WorldOperation& operation) {
  if (operation.name.empty()) return "before its first operation";
  if (operation.awaited.empty()) return absl::StrCat("past ", operation.name);
  return absl::StrCat("in ", operation.name, ", waiting for ", RanksText(operation.awaited));
}

const WorldOperation& OldestUnderWay(const WorldOperation& a, const WorldOperation& b) {
  if (a.awaited.empty() != b.awaited.empty()) return a.awaited.empty() ? b : a;
  const bool a_is_older = a.begun < b.begun;
  return a.awaited.empty() == a_is_older ? b : a;
}

}  // namespace entrain
