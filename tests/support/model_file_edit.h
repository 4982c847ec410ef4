// Changes one number of a model.safetensors in place, as a broken or hand-edited file would have it.
#ifndef ENTRAIN_TESTS_SUPPORT_MODEL_FILE_EDIT_H_
#define ENTRAIN_TESTS_SUPPORT_MODEL_FILE_EDIT_H_

#include <cstdint>
#include <string>

namespace entrain {

// Sets element `index` of the F32 tensor `name` in `folder`/model.safetensors.
void SetModelFileElement(const std::string& folder, const std::string& name, int64_t index,
                         float value);

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_MODEL_FILE_EDIT_H_
