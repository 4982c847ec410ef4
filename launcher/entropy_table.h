// Head entropies as a table for people: layers down, heads across.
#ifndef ENTRAIN_LAUNCHER_ENTROPY_TABLE_H_
#define ENTRAIN_LAUNCHER_ENTROPY_TABLE_H_

#include <cstdint>
#include <string>

#include "model/entropy_statistics.h"

namespace entrain {

// Mean entropy of every head in nats, the layers' means, and the shares of heads in each quarter of what a causal head can
// reach, with overload (the top quarter) and collapse (the bottom one) named. Ends with a newline.
std::string EntropyTable(const HeadTable& mean_entropy, int64_t context);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_ENTROPY_TABLE_H_
