# shellcheck shell=bash
# Source this file in bash or zsh (`. scripts/env.sh`) to work in the environment that `make setup` made: python, pytest, colcon, evitif
# and the nodes are then this repository's, and the ros2 of a distribution finds the package.
# Without a distribution you can also start `.venv/bin/python` by its path.

if [ -n "${ZSH_VERSION:-}" ]; then
    eval '_evitif_root=${${(%):-%x}:A:h:h}'
else
    _evitif_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fi

# The environment beside the sourced distribution; else the one from wheels; else one whose distribution is installed but not sourced.
_evitif_folder=$_evitif_root/.venv
if [ -n "${ROS_DISTRO:-}" ] && [ "${EVITIF_ROS:-}" != wheels ]; then
    _evitif_folder=$_evitif_root/.venv-$ROS_DISTRO
elif [ -n "${ROS_DISTRO:-}" ]; then
    unset PYTHONPATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH ROS_DISTRO
elif [ ! -d "$_evitif_folder" ]; then
    for _evitif_candidate in jazzy kilted lyrical humble; do
        if [ -d "$_evitif_root/.venv-$_evitif_candidate" ] && [ -r "/opt/ros/$_evitif_candidate/setup.sh" ]; then
            _evitif_folder=$_evitif_root/.venv-$_evitif_candidate
            # shellcheck disable=SC1090
            . "/opt/ros/$_evitif_candidate/setup.sh"
            break
        fi
    done
    unset _evitif_candidate
fi

if [ -f "$_evitif_folder/bin/activate" ]; then
    # shellcheck disable=SC1091
    . "$_evitif_folder/bin/activate"
    if [ -f "$_evitif_folder/share/ament_index/resource_index/packages/rclpy" ]; then
        # Wheels: their Python sets itself up (scripts/wheels_environment.py); the paths are for CMake and the shell.
        PATH=$_evitif_folder/workspace/install/evitif/bin:$PATH
        eval "$("$_evitif_folder/bin/python" -c 'import os, shlex
for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):
    print(f"export {name}={shlex.quote(os.environ[name])}")')"
    else
        # A distribution: the package is an overlay of it.
        if [ -n "${ZSH_VERSION:-}" ]; then
            _evitif_overlay=$_evitif_folder/workspace/install/local_setup.zsh
        else
            _evitif_overlay=$_evitif_folder/workspace/install/local_setup.bash
        fi
        # shellcheck disable=SC1090
        if [ -f "$_evitif_overlay" ]; then . "$_evitif_overlay"; fi
        unset _evitif_overlay
    fi
    # The sources before the installed copy, so that what is edited is what runs.
    export PYTHONPATH="$_evitif_root${PYTHONPATH:+:$PYTHONPATH}"
else
    # shellcheck disable=SC2016
    printf 'evitif: there is no environment in %s yet: run `make setup`\n' "$_evitif_folder" >&2
    unset _evitif_root _evitif_folder
    return 1
fi
unset _evitif_root _evitif_folder
