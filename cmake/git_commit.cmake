# cmake -DSOURCE=FOLDER -DHEADER=FILE -P git_commit.cmake - define HSGD_GIT_COMMIT in HEADER: the commit that SOURCE is
# at, `-dirty` where it was changed since, `unknown` outside git.  Run by every build, so that no result names a commit
# it was not made with; the header is rewritten only when it changes, so that nothing is compiled without need.
set(commit unknown)
find_program(GIT git)
if(GIT AND EXISTS ${SOURCE}/.git) # not that of a repository which merely holds SOURCE somewhere
  execute_process(COMMAND ${GIT} describe --always --dirty --abbrev=12 --exclude=* WORKING_DIRECTORY ${SOURCE}
                  OUTPUT_VARIABLE found RESULT_VARIABLE failed OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT failed AND found)
    set(commit ${found})
  endif()
endif()
set(text "#define HSGD_GIT_COMMIT \"${commit}\"\n")
if(EXISTS ${HEADER})
  file(READ ${HEADER} old)
endif()
if(NOT text STREQUAL "${old}")
  file(WRITE ${HEADER} "${text}")
endif()
