// Results of gpu_bench as JSON, an object a line: what ran before a crash is kept.
#ifndef ENTRAIN_TESTS_BENCH_GPU_RESULTS_H_
#define ENTRAIN_TESTS_BENCH_GPU_RESULTS_H_

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace entrain {

class GpuResults {
 public:
  // Appends to the file; "": keeps nothing.
  explicit GpuResults(std::string path) : path_(std::move(path)) {}

  void Add(const nlohmann::ordered_json& result) const {
    if (!path_.empty()) std::ofstream(path_, std::ios::app) << result.dump() << '\n';
  }
  void Clear() const {
    if (!path_.empty()) std::ofstream(path_, std::ios::trunc);
  }
  std::vector<nlohmann::json> All() const {
    std::vector<nlohmann::json> all;
    std::ifstream file(path_);
    for (std::string line; std::getline(file, line);) {
      auto result = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (result.is_object()) all.push_back(std::move(result));
    }
    return all;
  }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_BENCH_GPU_RESULTS_H_
