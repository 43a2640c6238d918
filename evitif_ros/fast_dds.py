"""The Fast DDS profile of a process that publishes images, config/fastdds.xml: where it is, and taking it.

By default, Fast DDS gives a process 0.5 MB of shared memory to send through, and loses most of a larger image on its way to another
process of the same machine. The profile makes that memory larger and leaves discovery as it is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from xml.etree import ElementTree

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.utilities import get_rmw_implementation_identifier

FILE = Path('config', 'fastdds.xml')
FAST_DDS_3, FAST_DDS_2 = 'FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'
# One of these variables, or of these files in the working directory, means that the user has configured Fast DDS.
VARIABLES = (FAST_DDS_3, FAST_DDS_2, 'FASTDDS_BUILTIN_TRANSPORTS')
FILES = ('DEFAULT_FASTDDS_PROFILES.xml', 'DEFAULT_FASTRTPS_PROFILES.xml')
SHARED_MEMORY = Path('/dev/shm')
_REPOSITORY = Path(__file__).resolve().parents[1]


def profile() -> Path | None:
    """The profile's path: in this repository, else in the installed package; None where the package is not installed whole."""
    paths = [_REPOSITORY / FILE]
    try:
        paths.append(Path(get_package_share_directory('evitif'), FILE))
    except PackageNotFoundError:
        pass
    return next((path for path in paths if path.is_file()), None)


def variable() -> str:
    """The variable that names profiles to the Fast DDS of this ROS; '' where ROS runs on another DDS, or its version is not known."""
    if not get_rmw_implementation_identifier().startswith('rmw_fastrtps'):
        return ''
    try:
        description = Path(get_package_share_directory('rmw_fastrtps_shared_cpp'), 'package.xml')
        version = ElementTree.parse(description).findtext('version')
    except (PackageNotFoundError, OSError):
        return ''
    return FAST_DDS_3 if int(version.partition('.')[0]) >= 9 else FAST_DDS_2    # Kilted has 9, Jazzy 8


def take_profile() -> str:
    """Let this process use the profile, if it runs on Fast DDS and the user has not configured that. Call it before `rclpy.init`.

    Only this process's own environment changes.

    :return: a sentence that says why large images may be lost, or ''
    """
    setting = variable()
    if not setting or any(name in os.environ for name in VARIABLES) or any(Path(name).exists() for name in FILES):
        return ''
    path = profile()
    if path is None:
        return f'{FILE} is not installed: images above 0.5 MB may not reach other processes of this machine'
    wanted = 2 * _segment_bytes(path)  # the other processes' segments lie there too
    free = _free_bytes(SHARED_MEMORY)
    if free < wanted:
        return (f'{SHARED_MEMORY} has {free / 1e6:.1f} MB free, expected at least {wanted / 1e6:.1f}: images above 0.5 MB may not reach '
                'other processes of this machine (in a container: start it with --shm-size=256m or --ipc=host)')
    os.environ[setting] = str(path)
    return ''


def remedy() -> str:
    """What a user does about large images that are lost on their way from a publisher of the same machine; '' on another DDS."""
    setting, path = variable(), profile()
    return f'start a publisher of this machine with {setting}={path}' if setting and path is not None else ''


def _segment_bytes(path: Path) -> int:
    return int(ElementTree.parse(path).find('.//{*}segment_size').text)


def _free_bytes(folder: Path) -> float:
    """What can still be written there: none where it is missing or read-only, any where the system keeps shared memory elsewhere."""
    if not sys.platform.startswith('linux'):
        return float('inf')
    if not os.access(folder, os.W_OK):
        return 0.0
    status = os.statvfs(folder)
    return float(status.f_bavail * status.f_frsize)
