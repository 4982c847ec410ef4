// That all ranks were started for the same run: nobody may train with another configuration, other data or another program.
#ifndef ENTRAIN_LAUNCHER_SAME_EVERYWHERE_H_
#define ENTRAIN_LAUNCHER_SAME_EVERYWHERE_H_

#include <string>

#include "launcher/train_config.h"
#include "parallel/comm/communicator.h"
#include "runtime/data/token_file.h"

namespace entrain {

// FailedPrecondition, the same on every rank, when a rank's text is not rank 0's: it names that rank, its host, and the first
// line in which they differ, with its [section] where lines stand under one. `what`: "the configuration"; `advice` ends
// the message. Collective.
absl::Status CheckSameEverywhere(Communicator& world, const std::string& text,
                                 const std::string& what, const std::string& advice);

// A data set as far as ranks must agree on it, in one line.
std::string DescribeForComparison(const TokenDataset& data);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_SAME_EVERYWHERE_H_
