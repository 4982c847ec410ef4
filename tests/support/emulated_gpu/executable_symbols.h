// What the executable's symbol table says of kernels.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_EXECUTABLE_SYMBOLS_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_EXECUTABLE_SYMBOLS_H_

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace entrain::emulated {

// The memory of all __shared__ variables of the executable: what has their abi_tag in its name.
const std::vector<std::span<char>>& SharedVariables();

// The size of the __shared__ variables that are declared in a kernel itself, not in functions that it calls.
size_t StaticSharedBytes(const void* kernel);

// The demangled name of a function of the executable.
std::string FunctionName(const void* function);

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_EXECUTABLE_SYMBOLS_H_
