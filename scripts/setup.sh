#!/usr/bin/env bash
# Set up the environment that `make demo` and `make test` run in: take the sourced ROS 2, else ROS 2 from PyPI, and find a Python.
#
#   EVITIF_ROS=wheels       ignore the sourced ROS 2
#   EVITIF_PYTHON=python    the Python to use where no ROS 2 is sourced
#   EVITIF_FOR=robot        leave out what only training, evaluation and tests need
#   EVITIF_TORCH=cpu|cuda   which PyTorch to install; by default cuda where an NVIDIA driver answers
#   TORCH_INDEX_URL=URL     where PyTorch for the CPU is, if not at download.pytorch.org
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'evitif: %s\n' "$*" >&2; }

if [[ -n ${ROS_DISTRO:-} && ${EVITIF_ROS:-} != wheels ]]; then
    for python in /usr/bin/python3 python3; do
        if command -v "$python" >/dev/null && "$python" -c 'import rclpy' 2>/dev/null; then
            if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
                say "$python cannot make virtual environments: \`sudo apt install python3-venv\`"
                exit 1
            fi
            exec "$python" scripts/setup_environment.py --distribution "$ROS_DISTRO"
        fi
    done
    say "ROS_DISTRO is $ROS_DISTRO, but no python3 imports rclpy: source the distribution's setup.bash again," \
        'or set EVITIF_ROS=wheels to ignore it'
    exit 1
fi
if [[ -n ${ROS_DISTRO:-} ]]; then
    unset PYTHONPATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH ROS_DISTRO
fi

complaints=()
for candidate in ${EVITIF_PYTHON:+"$EVITIF_PYTHON"} python3 python3.12 python3.11 python3.10; do
    command -v "$candidate" >/dev/null || continue
    if answer=$("$candidate" scripts/check_python.py 2>&1); then
        exec "$answer" scripts/setup_environment.py
    fi
    complaints+=("$candidate ${answer##*$'\n'}")
done
say 'Python 3.10, 3.11 or 3.12 is needed, with venv and its headers. Found:'
for complaint in "${complaints[@]}"; do
    say "$complaint"
done
exit 1
