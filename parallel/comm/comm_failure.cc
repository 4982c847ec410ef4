#include "parallel/comm/comm_failure.h"

#include <unistd.h>

#include <cstdio>

namespace entrain {

void FailCommunication(const std::string& rank, const std::string& what_happened) {
  std::fflush(stdout);
  std::fprintf(stderr, "entrain: rank %s: %s\n", rank.c_str(), what_happened.c_str());
  std::fflush(stderr);
  _exit(1);
}

}  // namespace entrain
