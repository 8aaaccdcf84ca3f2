# FindCUDNN - cuDNN: the target CUDNN::cudnn; CUDNN_FOUND, CUDNN_VERSION.
# Looks in CMAKE_PREFIX_PATH, the system, the toolkit (find_package(CUDAToolkit) before) and Python's nvidia packages,
# whose libraries have versioned names alone.  CUDNN_INCLUDE_DIR and CUDNN_LIBRARY may be given.
include(FindPackageHandleStandardArgs)
include(${CMAKE_CURRENT_LIST_DIR}/nvidia_packages.cmake)

hsgd_nvidia_folders(CUDNN_FOLDERS cudnn cu13 cu12)
find_path(CUDNN_INCLUDE_DIR NAMES cudnn.h HINTS ${CUDNN_FOLDERS} PATH_SUFFIXES include)
get_filename_component(CUDNN_BESIDE "${CUDNN_INCLUDE_DIR}" DIRECTORY) # first the library that belongs to this header
find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 NAMES_PER_DIR HINTS ${CUDNN_BESIDE} PATH_SUFFIXES lib64 lib
             NO_DEFAULT_PATH)
find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 NAMES_PER_DIR HINTS ${CUDNN_FOLDERS} PATH_SUFFIXES lib64 lib)
hsgd_header_version(CUDNN_VERSION "${CUDNN_INCLUDE_DIR}/cudnn_version.h" CUDNN_ MAJOR MINOR PATCHLEVEL)
find_package_handle_standard_args(CUDNN REQUIRED_VARS CUDNN_LIBRARY CUDNN_INCLUDE_DIR VERSION_VAR CUDNN_VERSION)
mark_as_advanced(CUDNN_INCLUDE_DIR CUDNN_LIBRARY)

if(CUDNN_FOUND AND NOT TARGET CUDNN::cudnn)
  add_library(CUDNN::cudnn UNKNOWN IMPORTED)
  set_target_properties(CUDNN::cudnn PROPERTIES IMPORTED_LOCATION "${CUDNN_LIBRARY}"
                        INTERFACE_INCLUDE_DIRECTORIES "${CUDNN_INCLUDE_DIR}")
endif()
