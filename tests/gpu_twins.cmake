# Tests of whole models and runs, a second time with the models on a GPU: the emulated one (label `unit`) and, where the CUDA
# backend is built, the real one (label `gpu`). The same sources; gpu_main.cc says on which device.
set(bundled_twins
  model/entropy_regularizer_test.cc
  model/golden_test.cc
  model/variants_test.cc
  launcher/device_switch_on_gpu.cc
  launcher/tuned_runs_on_gpu.cc)
set(gpu_twins ${bundled_twins}
  launcher/mesh_property_test.cc
  launcher/model_files_test.cc
  launcher/random_cases_test.cc)

# The rest: sources.
function(entrain_gpu_twin target backend binary label)
  add_executable(${target} ${ARGN} support/gpu_main.cc)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  target_compile_definitions(${target} PRIVATE ENTRAIN_GPU_BINARY="$<TARGET_FILE:${binary}>")
  target_link_libraries(${target} PRIVATE ${backend} ${backend}_collectives test_support GTest::gmock)
  add_dependencies(${target} ${binary})
  # Settling a spectral norm takes hundreds of power iterations: too many for the emulated GPU.
  add_test(NAME ${target} COMMAND ${target} "--gtest_filter=-*ModelFilesTest*snorm*")
  set_tests_properties(${target} PROPERTIES LABELS ${label} TIMEOUT 1800 SKIP_RETURN_CODE 77)
endfunction()

# Ranks with a GPU each exchange by NCCL, the emulated one.
function(entrain_nccl_twin target)
  if(NOT ENTRAIN_NCCL)
    return()
  endif()
  add_test(NAME ${target}_over_nccl COMMAND ${target})
  set_tests_properties(${target}_over_nccl PROPERTIES LABELS unit TIMEOUT 1800
    ENVIRONMENT "${unguarded};ENTRAIN_EMULATED_DEVICES=4")
endfunction()

if(CUDAToolkit_FOUND)
  add_executable(entrain_emulated ${CMAKE_SOURCE_DIR}/launcher/main.cc)
  target_link_libraries(entrain_emulated PRIVATE launcher emulated_backend emulated_backend_collectives)
endif()

# To guard memory against the host costs system calls, and many when ranks are threads: other tests see to that.
set(unguarded ENTRAIN_EMULATED_PROTECT=0)

foreach(source IN LISTS gpu_twins)
  string(REGEX REPLACE "(_on_gpu)?\\.cc$" "" target ${source})
  string(REPLACE "/" "_" target ${target})
  if(CUDAToolkit_FOUND)
    entrain_gpu_twin(${target}_on_emulated_gpu emulated_backend entrain_emulated unit ${source})
    if(source MATCHES "mesh")
      set_tests_properties(${target}_on_emulated_gpu PROPERTIES ENVIRONMENT "${unguarded}")
      entrain_nccl_twin(${target}_on_emulated_gpu)
    endif()
  endif()
  if(ENTRAIN_CUDA AND NOT source IN_LIST bundled_twins)
    entrain_gpu_twin(${target}_on_gpu device_backend entrain gpu ${source})
  endif()
endforeach()

# One program: each has all kernels in it, and a bundle is to stay small.
if(ENTRAIN_CUDA)
  entrain_gpu_twin(models_and_runs_on_gpu device_backend entrain gpu ${bundled_twins})
endif()
