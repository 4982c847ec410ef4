#include "tests/support/model_file_edit.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/base/check.h"

namespace entrain {

void SetModelFileElement(const std::string& folder, const std::string& name, int64_t index,
                         float value) {
  const std::string path = folder + "/model.safetensors";
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  CHECK(file.good()) << path;
  // u64 length of the header, the header in JSON, the tensors at offsets from its end.
  uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), sizeof(length));
  std::string header(length, '\0');
  file.read(header.data(), static_cast<std::streamsize>(length));
  const nlohmann::json tensor = nlohmann::json::parse(header).at(name);
  CHECK(tensor.at("dtype") == "F32") << name;
  const auto begin = tensor.at("data_offsets").at(0).get<uint64_t>();
  const uint64_t position =
      sizeof(length) + length + begin + static_cast<uint64_t>(index) * sizeof(float);
  file.seekp(static_cast<std::streamoff>(position));
  file.write(reinterpret_cast<const char*>(&value), sizeof(value));
  CHECK(file.good()) << path;
}

}  // namespace entrain
