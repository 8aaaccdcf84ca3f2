# The module hsgd-cuda.so: the CUDA backend, NCCL's communicator, and a copy of what they need of src/base.  The program
# opens it where a GPU is asked for.
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "HSGD_CUDA is on but no CUDA compiler was found; name it with -DCMAKE_CUDA_COMPILER=.../nvcc, or build without")
endif()
if(NOT CMAKE_CUDA_ARCHITECTURES)
  # Ampere and Hopper; what is newer compiles the 9.0 code for itself when it first runs, or has code of its own
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
endif()
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
enable_language(CUDA)
list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_SOURCE_DIR}/cmake)
find_package(CUDAToolkit 12 REQUIRED)
find_package(CUDNN 9 REQUIRED)
find_package(Threads REQUIRED)
if(HSGD_NCCL)
  find_package(NCCL 2.18 REQUIRED)
endif()

include(${CMAKE_CURRENT_LIST_DIR}/sources.cmake)
add_library(hsgd-cuda MODULE ${HSGD_MODULE_C} ${HSGD_CUDA_C} ${HSGD_CUDA_KERNELS} $<$<BOOL:${HSGD_NCCL}>:${HSGD_NCCL_C}>)
set_target_properties(hsgd-cuda PROPERTIES PREFIX "" SUFFIX ".so" C_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden
                      INSTALL_RPATH_USE_LINK_PATH ON)
# Our kernels wait for memory, not for arithmetic; without fused multiply-adds what is written is what is computed, and
# updates, sums and conversions have the CPU's bits.
target_compile_options(hsgd-cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false>)
target_include_directories(hsgd-cuda PRIVATE src cuda mpi)
target_compile_definitions(hsgd-cuda PRIVATE $<$<BOOL:${HSGD_NCCL}>:HSGD_NCCL>)
target_link_libraries(hsgd-cuda PRIVATE CUDA::cudart CUDA::cublas CUDNN::cudnn $<$<BOOL:${HSGD_NCCL}>:NCCL::nccl>
                      Threads::Threads m)
# Toolkits outside the loader's own places (environment modules, Python packages) are found again when the program runs;
# CMake itself leaves the toolkit's folder out.
foreach(library ${CUDA_cudart_LIBRARY} ${CUDNN_LIBRARY} ${NCCL_LIBRARY})
  get_filename_component(folder ${library} DIRECTORY)
  list(APPEND module_rpath ${folder})
endforeach()
list(APPEND module_rpath ${CUDAToolkit_LIBRARY_DIR})
list(REMOVE_DUPLICATES module_rpath)
set_target_properties(hsgd-cuda PROPERTIES BUILD_RPATH "${module_rpath}" INSTALL_RPATH "${module_rpath}")
install(TARGETS hsgd-cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/hsgd-dist)
