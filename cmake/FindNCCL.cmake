# FindNCCL - NCCL: the target NCCL::nccl; NCCL_FOUND, NCCL_VERSION.
# Looks where FindCUDNN does.  NCCL_INCLUDE_DIR and NCCL_LIBRARY may be given.
include(FindPackageHandleStandardArgs)
include(${CMAKE_CURRENT_LIST_DIR}/nvidia_packages.cmake)

hsgd_nvidia_folders(NCCL_FOLDERS nccl cu13 cu12)
find_path(NCCL_INCLUDE_DIR NAMES nccl.h HINTS ${NCCL_FOLDERS} PATH_SUFFIXES include)
get_filename_component(NCCL_BESIDE "${NCCL_INCLUDE_DIR}" DIRECTORY) # first the library that belongs to this header
find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 NAMES_PER_DIR HINTS ${NCCL_BESIDE} PATH_SUFFIXES lib64 lib
             NO_DEFAULT_PATH)
find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 NAMES_PER_DIR HINTS ${NCCL_FOLDERS} PATH_SUFFIXES lib64 lib)
hsgd_header_version(NCCL_VERSION "${NCCL_INCLUDE_DIR}/nccl.h" NCCL_ MAJOR MINOR PATCH)
find_package_handle_standard_args(NCCL REQUIRED_VARS NCCL_LIBRARY NCCL_INCLUDE_DIR VERSION_VAR NCCL_VERSION)
mark_as_advanced(NCCL_INCLUDE_DIR NCCL_LIBRARY)

if(NCCL_FOUND AND NOT TARGET NCCL::nccl)
  add_library(NCCL::nccl UNKNOWN IMPORTED)
  set_target_properties(NCCL::nccl PROPERTIES IMPORTED_LOCATION "${NCCL_LIBRARY}"
                        INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR}")
endif()
