// How a tensor core adds products of bf16 to an fp32 sum.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_TENSOR_CORE_SUM_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_TENSOR_CORE_SUM_H_

#include <array>

namespace entrain::emulated {

inline constexpr int kProductTerms = 16;  // of one instruction

// c + Σ a_k·b_k. The products are exact. By default they are summed in fp32, rounded to nearest, before they join c. With
// ENTRAIN_EMULATED_TENSOR_CORES=truncate they and c are added as hardware does: what lies below the last bits of the largest of
// them is cut off each, and so is the sum, 8 products at a time on an A100 and 16 on Hopper, with one and two bits more than fp32
// has (Khattak and Mikaitis, "Accurate Models of NVIDIA Tensor Cores", arXiv 2512.07004, of which this is the outline).
float TensorCoreSum(const std::array<float, kProductTerms>& products, float c);

// Whether that was asked for.
bool SumsAreTruncated();

// 2^x; with truncated sums off by up to two units in the last place, as `ex2` may be (PTX manual), but at 0.
float Exponential(float x);

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_TENSOR_CORE_SUM_H_
