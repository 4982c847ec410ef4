// Holds every #include of the sources against DESIGN.md's table of who may include whom, and each library against the
// places that may know it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <string>
#include <vector>

namespace entrain {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

// A folder may include itself and these.
const std::map<std::string, std::vector<std::string>>& AllowedFolders() {
  static const auto* const kTable = new std::map<std::string, std::vector<std::string>>{
      {"runtime/base", {}},
      {"runtime/device", {"runtime/base"}},
      {"runtime/tensor", {"runtime/base", "runtime/device"}},
      {"runtime/kernels", {"runtime/base", "runtime/device", "runtime/tensor"}},
      {"runtime/io", {"runtime/base"}},
      {"runtime/data", {"runtime/base", "runtime/device", "runtime/tensor", "runtime/io"}},
      {"parallel/comm", {"runtime/base", "runtime/device", "runtime/tensor", "runtime/kernels"}},
      {"parallel",
       {"parallel/comm", "runtime/kernels", "runtime/tensor", "runtime/device", "runtime/io",
        "runtime/base"}},
      {"model",
       {"parallel", "runtime/kernels", "runtime/tensor", "runtime/device", "runtime/base"}},
      {"launcher",
       {"runtime/base", "runtime/device", "runtime/tensor", "runtime/kernels", "runtime/io",
        "runtime/data", "parallel/comm", "parallel", "model"}},
  };
  return *kTable;
}

struct LibraryRule {
  const char* header;  // what an #include of the library matches
  const char* files;   // the files that may have one
};

constexpr LibraryRule kLibraryRules[] = {
    {"(oneapi/)?dnnl.*", "runtime/kernels/(.*_cpu\\.cc|matmul.*)"},
    {"omp\\.h", "runtime/(device|kernels)/.*_cpu\\.cc"},
    {"immintrin\\.h", "runtime/kernels/.*"},
    {"xxhash\\.h", "runtime/(io|data)/.*"},
    {"pcre2.*", "runtime/data/.*"},
    {"zstd.*", "runtime/data/.*"},
    {"nlohmann/.*", "(runtime/(io|data)|parallel|launcher)/.*"},
    {"toml\\+\\+/.*", "launcher/train_config.*"},
    {"CLI/.*", "launcher/.*"},
    {"spdlog/.*", "launcher/.*"},
    {"mpi\\.h", ".*_mpi\\.(h|cc)"},
    {"nccl\\.h", ".*_nccl\\.(h|cc)"},
    {"(cuda|cublas|cudnn|cub/|thrust/).*",
     "(.*_(cuda|nccl)\\.(h|cc|cu)|(.*/)?cuda_[^/]*|.*\\.cuh)"},
};

struct Include {
  std::string name;
  bool quoted = false;
};

std::vector<Include> IncludesOf(const std::string& text) {
  static const std::regex kLine(R"re(^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"])re",
                                std::regex::multiline);
  std::vector<Include> includes;
  for (std::sregex_iterator match(text.begin(), text.end(), kLine), end; match != end; ++match) {
    includes.push_back({(*match)[2], (*match)[1] == "\""});
  }
  return includes;
}

std::string FolderOf(const std::string& path) {
  return std::filesystem::path(path).parent_path().string();
}

bool MayInclude(const std::string& from, const std::string& to) {
  const auto allowed = AllowedFolders().find(from);
  if (allowed == AllowedFolders().end()) return false;
  return from == to || std::count(allowed->second.begin(), allowed->second.end(), to) > 0;
}

// What is wrong with `include` in `file`, or "".
std::string Violation(const std::string& file, const Include& include) {
  const bool ours = include.quoted && include.name.rfind("absl/", 0) != 0;
  if (ours && !MayInclude(FolderOf(file), FolderOf(include.name))) {
    return file + " may not include \"" + include.name + "\": see the table in DESIGN.md";
  }
  for (const LibraryRule& rule : kLibraryRules) {
    if (!std::regex_match(include.name, std::regex(rule.header))) continue;
    if (!std::regex_match(file, std::regex(rule.files))) {
      return file + " may not include <" + include.name + ">: only " + rule.files + " may";
    }
  }
  return "";
}

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

bool IsSource(const std::filesystem::path& path) {
  static const std::vector<std::string> kExtensions = {".h", ".cc", ".cu", ".cuh"};
  return std::count(kExtensions.begin(), kExtensions.end(), path.extension().string()) > 0;
}

TEST(IncludeRules, EverySourceKeepsThem) {
  const std::filesystem::path root(ENTRAIN_SOURCE_DIR);
  std::vector<std::string> violations;
  int files = 0;
  for (const char* top : {"runtime", "parallel", "model", "launcher"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / top)) {
      if (!entry.is_regular_file() || !IsSource(entry.path())) continue;
      ++files;
      const std::string file = std::filesystem::relative(entry.path(), root).string();
      for (const Include& include : IncludesOf(ReadAll(entry.path()))) {
        if (std::string what = Violation(file, include); !what.empty()) violations.push_back(what);
      }
    }
  }
  EXPECT_GT(files, 50) << "the sources were found";
  EXPECT_THAT(violations, IsEmpty());
}

TEST(IncludeRules, FindsIncludesInAnyLayout) {
  const std::vector<Include> includes = IncludesOf(
      "#include <a>\n  #  include \"b/c.h\" // why\n//#include <no>\nint x;  #include "
      "<neither>\n#include<d.h>");
  ASSERT_THAT(includes, SizeIs(3));
  EXPECT_EQ(includes[0].name, "a");
  EXPECT_FALSE(includes[0].quoted);
  EXPECT_EQ(includes[1].name, "b/c.h");
  EXPECT_TRUE(includes[1].quoted);
  EXPECT_EQ(includes[2].name, "d.h");
}

TEST(IncludeRules, KnowsWhatIsForbidden) {
  const struct {
    const char* file;
    Include include;
    bool allowed;
  } cases[] = {
      {"runtime/io/a.cc", {"runtime/base/check.h", true}, true},
      {"runtime/io/a.cc", {"runtime/io/b.h", true}, true},
      {"runtime/io/a.cc", {"absl/strings/str_cat.h", true}, true},
      {"runtime/io/a.cc", {"runtime/tensor/dtype.h", true}, false},
      {"runtime/io/a.cc", {"b.h", true}, false},
      {"runtime/base/a.cc", {"runtime/io/file_system.h", true}, false},
      {"model/a.cc", {"parallel/param_set.h", true}, true},
      {"model/a.cc", {"runtime/io/safetensors.h", true}, false},
      {"model/a.cc", {"nlohmann/json.hpp", false}, false},
      {"parallel/a.cc", {"model/model.h", true}, false},
      {"parallel/new_folder/a.cc", {"runtime/base/check.h", true}, false},
      {"launcher/a.cc", {"runtime/data/tokenizer.h", true}, true},
      {"launcher/a.cc", {"tests/support/variants.h", true}, false},
      {"launcher/train_config_source.cc", {"toml++/toml.h", false}, true},
      {"launcher/trainer.cc", {"toml++/toml.h", false}, false},
      {"runtime/kernels/matmul_cpu.cc", {"oneapi/dnnl/dnnl.hpp", false}, true},
      {"runtime/kernels/layernorm.cc", {"oneapi/dnnl/dnnl.hpp", false}, false},
      {"runtime/kernels/layernorm_cuda.cc", {"cuda_runtime.h", false}, true},
      {"runtime/kernels/layernorm_cpu.cc", {"cuda_runtime.h", false}, false},
      {"runtime/data/a.cc", {"pcre2.h", false}, true},
      {"launcher/a.cc", {"pcre2.h", false}, false},
      {"runtime/io/a.cc", {"CLI/CLI.hpp", false}, false},
      {"runtime/base/a.cc", {"spdlog/spdlog.h", false}, false},
      {"launcher/a.cc", {"mpi.h", false}, false},
      {"parallel/comm/a_nccl.cc", {"nccl.h", false}, true},
      {"parallel/comm/a_nccl.cc", {"cuda_runtime.h", false}, true},
      {"parallel/comm/a.cc", {"nccl.h", false}, false},
  };
  for (const auto& test : cases) {
    EXPECT_EQ(Violation(test.file, test.include).empty(), test.allowed)
        << test.file << " " << test.include.name;
  }
}

}  // namespace
}  // namespace entrain
