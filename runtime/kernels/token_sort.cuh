// Sorts the tokens of a batch, so that equal ones lie together. On the device, without waiting for it.
#ifndef ENTRAIN_RUNTIME_KERNELS_TOKEN_SORT_CUH_
#define ENTRAIN_RUNTIME_KERNELS_TOKEN_SORT_CUH_

#include <cstdint>

#include "runtime/device/context.h"

namespace entrain::cuda {

// In ascending order of `row`; equal rows in ascending order of `position`. Memory of the context's cache: until the next sort.
struct SortedTokens {
  // Row of a table of `table_rows` that the token has: token − first_token, or table_rows for tokens that have none there.
  const int32_t* row;
  // The token's place in the batch.
  const int32_t* position;
};
SortedTokens SortTokens(Context& context, const int32_t* tokens, int64_t count, int64_t first_token,
                        int64_t table_rows);

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_TOKEN_SORT_CUH_
