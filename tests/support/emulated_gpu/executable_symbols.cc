#include "tests/support/emulated_gpu/executable_symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string_view>
#include <unordered_map>

#include "runtime/base/check.h"

namespace entrain::emulated {
namespace {

constexpr std::string_view kSharedTag = "B9gpushared";  // abi_tag("gpushared"), mangled
constexpr std::string_view kMangled = "_Z";

struct SharedVariable {
  std::string_view name;
  std::span<char> memory;
};

struct Symbols {
  std::vector<char> executable;  // what the names are in
  std::unordered_map<uintptr_t, std::string_view> functions;
  std::vector<SharedVariable> shared;
};

std::vector<char> ReadExecutable() {
  std::ifstream file("/proc/self/exe", std::ios::binary | std::ios::ate);
  std::vector<char> bytes(static_cast<size_t>(file.tellg()));
  file.seekg(0);
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  CHECK(file.good()) << "cannot read the symbol table of the program";
  return bytes;
}

// Where the executable is loaded, the first of the program's objects.
uintptr_t LoadAddress() {
  uintptr_t address = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t /*size*/, void* result) {
        *static_cast<uintptr_t*>(result) = info->dlpi_addr;
        return 1;
      },
      &address);
  return address;
}

// Takes what is of interest from one symbol table.
void Collect(std::span<const Elf64_Sym> table, const char* names, Symbols& symbols) {
  const uintptr_t load = LoadAddress();
  for (const Elf64_Sym& symbol : table) {
    const std::string_view name = names + symbol.st_name;
    const uintptr_t address = load + symbol.st_value;
    if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC) {
      symbols.functions[address] = name;
    } else if (symbol.st_size > 0 && name.find(kSharedTag) != std::string_view::npos) {
      symbols.shared.push_back({name, {reinterpret_cast<char*>(address), symbol.st_size}});
    }
  }
}

Symbols* ReadSymbols() {
  auto* symbols = new Symbols{.executable = ReadExecutable()};
  const char* bytes = symbols->executable.data();
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(bytes);
  const std::span sections(reinterpret_cast<const Elf64_Shdr*>(bytes + header->e_shoff),
                           header->e_shnum);
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_SYMTAB) continue;
    const std::span table(reinterpret_cast<const Elf64_Sym*>(bytes + section.sh_offset),
                          section.sh_size / sizeof(Elf64_Sym));
    Collect(table, bytes + sections[section.sh_link].sh_offset, *symbols);
  }
  return symbols;
}

const Symbols& ExecutableSymbols() {
  static const Symbols* symbols = ReadSymbols();
  return *symbols;
}

std::string_view MangledName(const void* function) {
  const auto& functions = ExecutableSymbols().functions;
  const auto found = functions.find(reinterpret_cast<uintptr_t>(function));
  return found == functions.end() ? std::string_view() : found->second;
}

}  // namespace

const std::vector<std::span<char>>& SharedVariables() {
  static const auto* memory = [] {
    auto* all = new std::vector<std::span<char>>();
    for (const SharedVariable& variable : ExecutableSymbols().shared) {
      all->push_back(variable.memory);
    }
    return all;
  }();
  return *memory;
}

size_t StaticSharedBytes(const void* kernel) {
  const std::string_view name = MangledName(kernel);
  if (!name.starts_with(kMangled)) return 0;
  // A local variable's name holds its function's: _ZZ<function>E<variable>.
  const std::string prefix = "_ZZ" + std::string(name.substr(kMangled.size())) + "E";
  size_t bytes = 0;
  for (const SharedVariable& variable : ExecutableSymbols().shared) {
    if (variable.name.starts_with(prefix)) bytes += variable.memory.size();
  }
  return bytes;
}

std::string FunctionName(const void* function) {
  const std::string mangled(MangledName(function));
  int status = 0;
  char* demangled = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
  if (demangled == nullptr) return mangled.empty() ? "of no name" : mangled;
  std::string result = demangled;
  std::free(demangled);
  return result;
}

}  // namespace entrain::emulated
