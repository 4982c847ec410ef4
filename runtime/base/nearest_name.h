// "did you mean": the candidate nearest to a misspelt word.
#ifndef ENTRAIN_RUNTIME_BASE_NEAREST_NAME_H_
#define ENTRAIN_RUNTIME_BASE_NEAREST_NAME_H_

#include <string>
#include <string_view>
#include <vector>

namespace entrain {

// Edit distance with insertions, deletions, substitutions and swaps of neighbours, each of cost 1.
int EditDistance(std::string_view a, std::string_view b);

// The candidate of least edit distance, or "" when none lies within a third of the word's length (at least 2).
std::string NearestName(std::string_view word, const std::vector<std::string>& candidates);

// ", did you mean 'x'?" or "": to be appended to a message.
std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_BASE_NEAREST_NAME_H_
