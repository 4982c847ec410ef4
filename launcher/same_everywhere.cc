#include "launcher/same_everywhere.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launcher/host_name.h"

namespace entrain {
namespace {

// What differs first: "[train] seed = 2 and not seed = 1". Lines that one of them lacks are empty.
std::string FirstDifference(const std::string& mine, const std::string& theirs) {
  const std::vector<std::string> a = absl::StrSplit(mine, '\n');
  const std::vector<std::string> b = absl::StrSplit(theirs, '\n');
  std::string section;
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::string& left = i < a.size() ? a[i] : "";
    const std::string& right = i < b.size() ? b[i] : "";
    if (left == right) {
      if (left.starts_with('[')) section = left + " ";
      continue;
    }
    return absl::StrCat(section, left.empty() ? "nothing" : left, " and not ",
                        right.empty() ? "nothing" : right);
  }
  return "";
}

}  // namespace

absl::Status CheckSameEverywhere(Communicator& world, const std::string& text,
                                 const std::string& what, const std::string& advice) {
  std::string first = text;
  world.BroadcastText(&first, 0, absl::StrCat("comparing ", what));
  absl::Status mine;
  if (text != first) {
    mine = absl::FailedPreconditionError(
        absl::StrCat(what, " of rank ", world.rank(), " on ", HostName(),
                     " is not that of rank 0: ", FirstDifference(text, first), "; ", advice));
  }
  return world.Agree(mine, "comparing ranks");
}

std::string DescribeForComparison(const TokenDataset& data) {
  return absl::StrCat(data.num_tokens(), " tokens in ", data.num_files(), " files (fingerprint ",
                      data.fingerprint(), ")");
}

}  // namespace entrain
