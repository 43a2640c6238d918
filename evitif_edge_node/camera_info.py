"""`camera_info` for the images, from a calibration file of camera_calibration, found by camera_info_manager's URLs."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from evitif.wording import shortened
from evitif_ros import qos

_EXPECTED = 'expected file:///PATH or package://PACKAGE/PATH of a YAML file as camera_calibration writes it'
# Field of the message, key of the file, numbers.
_MATRICES = (('k', 'camera_matrix', 9), ('r', 'rectification_matrix', 9), ('p', 'projection_matrix', 12),
             ('d', 'distortion_coefficients', None))


class CameraInfoError(ValueError):
    """A calibration cannot be read; the text names the URL and what was expected."""


def camera_info_topic(node: Node) -> str:
    """`camera_info` next to the node's `image`, where image_transport looks for it, unless it is remapped itself."""
    own = node.resolve_topic_name('camera_info')
    if own != node.resolve_topic_name('camera_info', only_expand=True):
        return own
    return node.resolve_topic_name('image').rpartition('/')[0] + '/camera_info'


class CameraInfos:
    """The newest `camera_info` that came beside a node's images."""

    def __init__(self, node: Node):
        self._newest: CameraInfo | None = None
        self._subscription = node.create_subscription(CameraInfo, camera_info_topic(node), self._take, qos.NEWEST_IMAGE)

    def _take(self, message: CameraInfo) -> None:
        self._newest = message

    def of(self, shape: tuple[int, ...]) -> CameraInfo | None:
        """A copy of it for an image [height, width, …] of its size; None where there is none."""
        newest = self._newest
        return None if newest is None or (newest.height, newest.width) != tuple(shape[:2]) else copy.deepcopy(newest)


def load_calibration(url: str, camera_name: str) -> CameraInfo | None:
    """The calibration at `url` (with `${ROS_HOME}`, `${NAME}` of the camera), None where that is empty. Raises CameraInfoError."""
    if not url:
        return None
    path = _path_of(url.replace('${ROS_HOME}', os.environ.get('ROS_HOME') or str(Path.home() / '.ros')).replace('${NAME}', camera_name))
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CameraInfoError(f'camera_info_url {url!r} cannot be read: {shortened(error)}; {_EXPECTED}') from None
    try:
        return _from_yaml(content)
    except (ValueError, OverflowError) as error:
        raise CameraInfoError(f'camera_info_url {url!r}: {error}; {_EXPECTED}') from None


def camera_info(calibration: CameraInfo | None, header: Header, width: int, height: int) -> CameraInfo:
    """The message for an image of that size: the calibration where it is of that size, else zeros, which mean uncalibrated."""
    if calibration is None or (calibration.width, calibration.height) != (width, height):
        return CameraInfo(header=header, width=width, height=height)
    return CameraInfo(header=header, width=width, height=height, distortion_model=calibration.distortion_model, d=calibration.d,
                      k=calibration.k, r=calibration.r, p=calibration.p)


def _path_of(url: str) -> Path:
    scheme, separator, rest = url.partition('://')
    package, slash, below = rest.partition('/')
    if separator and scheme.lower() == 'file' and rest.startswith('/'):
        return Path(rest)
    if not separator or scheme.lower() != 'package' or not package or not below:
        raise CameraInfoError(f'camera_info_url {url!r}: {_EXPECTED}')
    try:
        return Path(get_package_share_directory(package), below)
    except (PackageNotFoundError, ValueError):
        raise CameraInfoError(f'camera_info_url {url!r}: there is no package {package!r}; {_EXPECTED}') from None


def _from_yaml(content: object) -> CameraInfo:
    if not isinstance(content, dict):
        raise ValueError(f'it holds {content!r:.40}')
    missing = [key for key in ('image_width', 'image_height', *(key for _, key, _ in _MATRICES)) if key not in content]
    if missing:
        raise ValueError(f'{", ".join(missing)} missing')
    size = content['image_width'], content['image_height']
    if not all(type(pixels) is int and 0 < pixels < 1 << 32 for pixels in size):
        raise ValueError(f'image_width and image_height are {size[0]!r:.40} and {size[1]!r:.40}, numbers of pixels are needed')
    # Files from before there were models of distortion have none; camera_info_manager takes them so.
    info = CameraInfo(width=size[0], height=size[1], distortion_model=str(content.get('distortion_model', 'plumb_bob')))
    for field, key, count in _MATRICES:
        data = content[key].get('data') if isinstance(content[key], dict) else None
        if not isinstance(data, list) or count not in (None, len(data)) or not all(type(number) in (int, float) for number in data):
            raise ValueError(f'{key} has the data {data!r:.60}, {count or "any count of"} numbers are needed')
        setattr(info, field, [float(number) for number in data])
    return info
