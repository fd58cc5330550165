# find_package(Posthouse CONFIG) gives the targets Posthouse::posthouse (the shared library) and, where it is installed,
# Posthouse::static. Lies in PREFIX/lib/cmake/Posthouse.

get_filename_component(_posthouse_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(_posthouse_include "${_posthouse_prefix}/include")
set(Posthouse_FOUND FALSE)

if(NOT EXISTS "${_posthouse_include}/posthouse.h")
  set(Posthouse_NOT_FOUND_MESSAGE "posthouse.h is not in ${_posthouse_include}")
  return()
endif()
file(STRINGS "${_posthouse_include}/posthouse.h" _posthouse_version REGEX "^#define PH_VERSION \"")
string(REGEX REPLACE ".*\"([^\"]+)\".*" "\\1" Posthouse_VERSION "${_posthouse_version}")

if(NOT TARGET Posthouse::posthouse)
  if(WIN32)
    find_file(Posthouse_DLL NAMES posthouse.dll PATHS "${_posthouse_prefix}/bin" "${_posthouse_prefix}/lib" NO_DEFAULT_PATH)
    find_file(Posthouse_IMPLIB NAMES posthouse.lib posthouse.dll.lib libposthouse.dll.a PATHS "${_posthouse_prefix}/lib" NO_DEFAULT_PATH)
    if(Posthouse_DLL AND Posthouse_IMPLIB)
      add_library(Posthouse::posthouse SHARED IMPORTED)
      set_target_properties(Posthouse::posthouse PROPERTIES
        IMPORTED_LOCATION "${Posthouse_DLL}" IMPORTED_IMPLIB "${Posthouse_IMPLIB}"
        INTERFACE_INCLUDE_DIRECTORIES "${_posthouse_include}")
    endif()
  else()
    find_file(Posthouse_SHARED NAMES libposthouse.so.0 libposthouse.so libposthouse.dylib PATHS "${_posthouse_prefix}/lib" NO_DEFAULT_PATH)
    if(Posthouse_SHARED)
      add_library(Posthouse::posthouse SHARED IMPORTED)
      set_target_properties(Posthouse::posthouse PROPERTIES
        IMPORTED_LOCATION "${Posthouse_SHARED}" INTERFACE_INCLUDE_DIRECTORIES "${_posthouse_include}")
    endif()
  endif()
endif()

if(NOT TARGET Posthouse::static AND EXISTS "${_posthouse_prefix}/lib/libposthouse.a")
  add_library(Posthouse::static STATIC IMPORTED)
  set_target_properties(Posthouse::static PROPERTIES
    IMPORTED_LOCATION "${_posthouse_prefix}/lib/libposthouse.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_posthouse_include}")
  if(UNIX AND NOT APPLE)
    set_property(TARGET Posthouse::static PROPERTY INTERFACE_LINK_LIBRARIES pthread dl m gcc_s util rt c)
  endif()
endif()

if(TARGET Posthouse::posthouse OR TARGET Posthouse::static)
  set(Posthouse_FOUND TRUE)
else()
  set(Posthouse_NOT_FOUND_MESSAGE "libposthouse is not in ${_posthouse_prefix}/lib")
endif()
