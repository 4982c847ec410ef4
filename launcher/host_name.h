// The machine's name, for messages.
#ifndef ENTRAIN_LAUNCHER_HOST_NAME_H_
#define ENTRAIN_LAUNCHER_HOST_NAME_H_

#include <string>

namespace entrain {

// "unknown" when the system does not tell.
std::string HostName();

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_HOST_NAME_H_
