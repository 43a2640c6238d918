"""Print the path of the Python that runs this, if the environment can be made with it; else end with the reason.

The path is that of the interpreter itself, not of an active virtual environment, which may be about to be replaced.
Runs in Python 3.6 and newer.
"""

import os
import sys
import sysconfig

if not (3, 10) <= sys.version_info < (3, 13):
    sys.exit(f'is Python {sys.version_info[0]}.{sys.version_info[1]}')
name = f'python3.{sys.version_info[1]}'
try:
    import ensurepip  # noqa: F401
    import venv  # noqa: F401
except ImportError:
    sys.exit(f'cannot make virtual environments: `sudo apt install {name}-venv`')
if not os.path.exists(os.path.join(sysconfig.get_paths()['include'], 'Python.h')):
    sys.exit(f'lacks its headers: `sudo apt install {name}-dev`')
print(getattr(sys, '_base_executable', sys.executable))
