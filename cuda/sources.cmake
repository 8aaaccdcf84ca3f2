# What the module hsgd-cuda.so is made of; tests/emulation makes the same of the same files without a GPU.
get_filename_component(top ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)
file(GLOB HSGD_CUDA_C CONFIGURE_DEPENDS ${top}/cuda/*.c)
file(GLOB HSGD_CUDA_KERNELS CONFIGURE_DEPENDS ${top}/cuda/*.cu)
file(GLOB HSGD_NCCL_C CONFIGURE_DEPENDS ${top}/mpi/*nccl*.c)
set(HSGD_MODULE_C ${top}/src/wiring/module.c ${top}/src/base/error.c ${top}/src/base/clock.c ${top}/src/base/comm.c
    ${top}/src/base/ticker.c ${top}/src/base/watch.c ${top}/src/base/watch_word.c)
