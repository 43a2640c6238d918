"""Every parameter of the edge node and of the camera node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evitif.image_transports import TRANSPORTS
from evitif.settings import EDGE_SETTINGS, STRATEGY, Changeable, EdgeSettings, Settings, setting
from evitif_ros.parameters import USE_FQN, StatisticsSettings, table_of


@dataclass(frozen=True, kw_only=True)
class EdgeNodeSettings(StatisticsSettings):
    """What the edge node has beside EdgeSettings."""

    image_transport: str = setting('raw', 'subscribe to `image` (raw), `image/compressed`, or to the video packets of `image/ffmpeg` or '
                                 '`image/foxglove`', choices=tuple(TRANSPORTS), launch=True)
    significant_bits: int = setting(0, 'bits that the sensor fills in samples of 16 bits, for example 10 or 12 in mono16; 0: found from '
                                    'the images', unit='bits', minimum=0, maximum=16)
    image_timeout: float = setting(2.0, 'warn on /diagnostics after this long without an image', unit='s', minimum=0.1, maximum=3600.0,
                                   changeable=Changeable.ALWAYS)
    annotated_height: int = setting(480, 'height of `~/annotated_image`', unit='pixels', minimum=120, maximum=2160,
                                    changeable=Changeable.ALWAYS)


@dataclass(frozen=True, kw_only=True)
class CameraSettings(Settings):
    """What the camera node publishes."""

    source: str = setting('fashion-mnist', '`fashion-mnist`, `moving-fashion` (a made video), a folder of images (one folder a class, or '
                          'flat), an image, a bag (rosbag2 or ROS 1; `rover.mcap:/camera/image_raw` names a topic), a video file, or a '
                          'camera: its number or /dev/video0', required=True, launch=True)
    split: str = setting('test', 'part of a data set', choices=('train', 'test'))
    significant_bits: int = setting(0, 'bits used of image files with more than 8 bits; 0: found from the files', unit='bits', minimum=0,
                                    maximum=16)
    rate: float = setting(10.0, 'images a second; a bag has its own times', unit='Hz', minimum=0.01, maximum=1000.0,
                          changeable=Changeable.ALWAYS,
                          launch=True)
    loop: bool = setting(True, 'begin again after the last image')
    start: float = setting(0.0, 'where a bag begins, after its first image', unit='s', minimum=0.0, maximum=1e6)
    duration: float = setting(0.0, 'how much of a bag is played; 0: to its end', unit='s', minimum=0.0, maximum=1e6)
    speed: float = setting(1.0, 'how fast a bag is played; 2: in half of the time', minimum=0.01, maximum=100.0,
                           changeable=Changeable.ALWAYS)
    recorded_stamps: bool = setting(True, "images of a bag keep their stamps and frame_ids; false: they get the time of now and `frame_id`")
    count: int = setting(0, 'stop after this many images; 0: no limit', unit='images', minimum=0, launch=True)
    start_index: int = setting(0, 'first image of a data set or folder', unit='images', minimum=0)
    shuffle: bool = setting(False, 'publish in another order than by name, the same for the same `seed`; of `moving-fashion` the clips')
    seed: int = setting(0, 'seed of the shuffled order', minimum=0, maximum=2 ** 32 - 1)
    width: int = setting(0, 'width that a camera device is asked for; 0: its own choice', unit='pixels', minimum=0, maximum=16_384)
    height: int = setting(0, 'height that a camera device is asked for; 0: its own choice', unit='pixels', minimum=0, maximum=16_384)
    frame_id: str = setting('camera_optical_frame', "frame_id of the images' headers: z forward, x right (REP 103)")
    camera_info_url: str = setting('', 'calibration for `camera_info`: file:///PATH or package://PACKAGE/PATH of a YAML file as '
                                   'camera_calibration writes it; empty: uncalibrated')
    publish_compressed: bool = setting(False, 'publish `image/compressed` (JPEG) as well')
    jpeg_quality: int = setting(90, 'quality of `image/compressed`', unit='percent', minimum=1, maximum=100, changeable=Changeable.ALWAYS)
    wait_for_subscribers: int = setting(0, 'before the first image, wait for this many subscriptions of the images', unit='subscriptions',
                                        minimum=0, maximum=1000)
    exit_when_done: bool = setting(False, 'end the process after the last image')


EDGE_PARAMETERS = (STRATEGY, *table_of(*EDGE_SETTINGS.values(), EdgeNodeSettings), USE_FQN)
CAMERA_PARAMETERS = table_of(CameraSettings)


def edge_runtime_settings(values: dict[str, Any]) -> EdgeSettings:
    """The settings that the edge node's parameters describe. Raises ValueError where values contradict each other."""
    return EDGE_SETTINGS[values['strategy']].from_parameters(values)
