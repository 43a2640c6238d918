"""Set up ROS 2's paths whenever the Python of an environment with ROS 2 wheels starts.

`scripts/setup_environment.py` copies this module into the environment's site-packages, with a .pth file that imports it, so that you
need not source anything. The wheels' libraries have to be in `LD_LIBRARY_PATH`, which the loader reads only when a process starts.
`ros_wheels_bootstrapper`, a dependency of the wheels, therefore re-executes Python once and notes that in a variable. This module
does so first, for two reasons:

- Python has to find the colcon package built beside the wheels too, and in a fixed order (the bootstrapper shuffles the path);
- a process that inherits the note without the path (a cleaned environment, sudo, a service) could not load rclpy.
"""

import os
import sys
from pathlib import Path

BOOTSTRAPPED = '_ROS_WHEELS_BOOTSTRAP_COMPLETE'
# The process that was re-executed: a Python with privileges loses LD_LIBRARY_PATH each time and would do it for ever.
REEXECUTED = '_EVITIF_REEXECUTED'


def extend(variable: str, folders: list[str]) -> bool:
    """Append the folders that the variable's path lacks; return whether there were any."""
    present = [part for part in os.environ.get(variable, '').split(os.pathsep) if part]
    missing = [folder for folder in folders if folder not in present]
    os.environ[variable] = os.pathsep.join(present + missing)
    return bool(missing)


def complete_environment(prefix: Path, repository: Path) -> None:
    """Set paths for this process and its children: what was built in `prefix`/workspace, the wheels, the repository's sources."""
    site_packages = Path('lib', f'python{sys.version_info.major}.{sys.version_info.minor}', 'site-packages')
    package = prefix / 'workspace' / 'install' / 'evitif'

    prefixes = [str(folder) for folder in (package, prefix) if folder.is_dir()]
    extend('AMENT_PREFIX_PATH', prefixes)
    extend('CMAKE_PREFIX_PATH', prefixes)
    # The sources before the installed copy, so that what is edited is what runs; the messages are only in the latter.
    for folder in (str(repository), str(package / site_packages)):
        if folder not in sys.path:
            sys.path.append(folder)

    libraries = [str(package / 'lib'), str(prefix / 'lib')]
    libraries += sorted(map(str, (prefix / site_packages).glob('ros_*.libs')))
    os.environ[BOOTSTRAPPED] = '1'
    if extend('LD_LIBRARY_PATH', libraries) and os.environ.get(REEXECUTED) != str(os.getpid()):
        os.environ[REEXECUTED] = str(os.getpid())
        os.execv(sys.executable, sys.orig_argv)


complete_environment(Path(sys.prefix), Path(sys.prefix).parent)
