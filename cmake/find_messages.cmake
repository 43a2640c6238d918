# Sets `messages_found` where evitif_msgs was built by itself, in this workspace or in an underlay, from the definitions that lie here.
set(messages_found FALSE)
set(message_folder ${CMAKE_CURRENT_SOURCE_DIR}/evitif_msgs/msg)
get_filename_component(workspace ${CMAKE_INSTALL_PREFIX} DIRECTORY)

# A package that comes or goes in this workspace changes its folder: look again then.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${workspace})

ament_index_has_resource(messages_prefix built_by_itself evitif_msgs)
if(messages_prefix)
  set(messages_found TRUE)
  file(GLOB definitions ${message_folder}/*.msg)
  foreach(definition ${definitions})
    get_filename_component(name ${definition} NAME)
    execute_process(
      COMMAND ${CMAKE_COMMAND} -E compare_files ${definition} ${messages_prefix}/share/evitif_msgs/msg/${name}
      RESULT_VARIABLE differs OUTPUT_QUIET ERROR_QUIET)
    if(differs)
      set(messages_found FALSE)
    endif()
  endforeach()

  get_filename_component(messages_workspace ${messages_prefix} DIRECTORY)
  if(messages_workspace STREQUAL workspace AND NOT messages_found)
    message(FATAL_ERROR "evitif_msgs in ${messages_prefix} was built from other definitions than those in ${message_folder}: "
      "build it again first, with ${CMAKE_CURRENT_SOURCE_DIR}/evitif_msgs among colcon's --base-paths")
  endif()
endif()

# What an earlier build of this package installed of the messages would stay there beside them.
set(own_copy ${CMAKE_INSTALL_PREFIX}/share/evitif_msgs)
if(messages_found AND (EXISTS ${CMAKE_CURRENT_BINARY_DIR}/evitif_msgs
    OR (EXISTS ${own_copy} AND NOT messages_prefix STREQUAL CMAKE_INSTALL_PREFIX)))
  message(FATAL_ERROR "evitif_msgs is a package of its own now (${messages_prefix}) and was built inside of evitif before: "
    "remove ${CMAKE_CURRENT_BINARY_DIR} and what evitif installed in ${CMAKE_INSTALL_PREFIX}, then build again")
endif()
if(messages_found)
  message(STATUS "evitif_msgs is in ${messages_prefix}")
endif()
