"""Bags that tests write: the same frames as raw images, JPEG, and H.264, in each of the formats."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from evitif.image_transports import COMPRESSED, FFMPEG, FOXGLOVE, IMAGE
from evitif.recording.definitions import EXTRA_DEFINITIONS

PERIOD_NS = 33_000_000
START_NS = 1_700_000_000_123_456_789
DELAY_NS = 5_000_000        # from stamp to recorder
FORMATS = ('mcap', 'sqlite3', 'ros1')
TOPICS = {IMAGE: '/camera/image_raw', COMPRESSED: '/camera/image_raw/compressed', FFMPEG: '/camera/image_raw/ffmpeg',
          FOXGLOVE: '/camera/image_raw/foxglove'}


def frames(count: int = 12, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """A textured picture that moves, uint8 [H, W, 3] RGB; each is unlike the others."""
    rng = np.random.default_rng(5)
    large = cv2.GaussianBlur(rng.integers(0, 256, (height, width + 2 * count, 3), np.uint8), (0, 0), 2)
    return [np.ascontiguousarray(large[:, 2 * index:2 * index + width]) for index in range(count)]


def stamp_of(index: int, period_ns: int = PERIOD_NS) -> int:
    return START_NS + index * period_ns


def store_of(format: str):
    store = get_typestore(Stores.ROS1_NOETIC if format == 'ros1' else Stores.ROS2_JAZZY)
    for kind, text in EXTRA_DEFINITIONS.items():
        store.register(get_types_from_msg(text, kind))
    return store


def h264(images: list[np.ndarray], key_every: int = 6) -> list[bytes]:
    """One packet for each image, as a robot's encoder sends them. Skips the test where PyAV is not there."""
    import pytest
    av = pytest.importorskip('av', reason='H.264 needs PyAV (requirements/video.txt)')
    context = av.CodecContext.create('libx264', 'w')
    context.height, context.width = images[0].shape[:2]
    context.pix_fmt, context.time_base, context.framerate = 'yuv420p', Fraction(1, 30), Fraction(30)
    context.options = {'preset': 'veryfast', 'tune': 'zerolatency', 'crf': '10', 'x264-params': f'keyint={key_every}:scenecut=0'}
    packets = []
    for image in images:
        packets += context.encode(av.VideoFrame.from_ndarray(image, format='rgb24'))
    packets += context.encode(None)
    return [bytes(packet) for packet in packets]


def message_of(store, format: str, kind: str, index: int, image: np.ndarray, packet: bytes = b'', frame_id: str = 'camera'):
    types, stamp = store.types, stamp_of(index)
    time = types['builtin_interfaces/msg/Time'](sec=stamp // 10**9, nanosec=stamp % 10**9)
    header_type = types['std_msgs/msg/Header']
    header = header_type(seq=index, stamp=time, frame_id=frame_id) if format == 'ros1' else header_type(stamp=time, frame_id=frame_id)
    if kind == IMAGE:
        return types[kind](header=header, height=image.shape[0], width=image.shape[1], encoding='bgr8', is_bigendian=0,
                           step=3 * image.shape[1], data=np.ascontiguousarray(image[..., ::-1]).reshape(-1))
    if kind == COMPRESSED:
        encoded = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].reshape(-1)
        return types[kind](header=header, format='bgr8; jpeg compressed bgr8', data=encoded)
    data = np.frombuffer(packet, np.uint8)
    if kind == FFMPEG:
        return types[kind](header=header, width=image.shape[1], height=image.shape[0], encoding='libx264', pts=index,
                           flags=int(index % 6 == 0),
                           is_bigendian=False, data=data)
    return types[kind](timestamp=time, frame_id=frame_id, data=data, format='h264')


def write_bag(path: Path, format: str, images: list[np.ndarray], kinds=(IMAGE,), compression: str = '',
              period_ns: int = PERIOD_NS) -> Path:
    """A bag with the images as messages of `kinds`, each on its topic; `compression`: 'file', 'message' or 'storage' (rosbag2 only)."""
    store = store_of(format)
    packets = h264(images) if FFMPEG in kinds or FOXGLOVE in kinds else [b''] * len(images)
    if format == 'ros1':
        writer, options = Writer1(path), {}
    else:
        writer = Writer2(path, version=9, storage_plugin=StoragePlugin[format.upper()])
        options = {}
        if compression:
            writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        connections = {kind: writer.add_connection(TOPICS[kind], kind, typestore=store, **options) for kind in kinds}
        for index, image in enumerate(images):
            for kind, connection in connections.items():
                message = message_of(store, format, kind, index, image, packets[index])
                stamp = stamp_of(index, period_ns)
                data = store.serialize_ros1(message, kind) if format == 'ros1' else store.serialize_cdr(message, kind)
                writer.write(connection, stamp + DELAY_NS, data)
    return path


def write_sparse_bag(path: Path, count: int, height: int = 1080, width: int = 1920) -> Path:
    """An MCAP file with `count` black images that takes nearly no room on the disk: their pixels are holes in the file."""
    from mcap.writer import CompressionType, IndexType, Writer
    store = store_of('mcap')
    with path.open('wb') as file:
        writer = Writer(file, compression=CompressionType.NONE, index_types=IndexType.NONE, use_chunking=False, use_statistics=False,
                        use_summary_offsets=False)
        writer.start('ros2')
        definition, _ = store.generate_msgdef(IMAGE, ros_version=2)
        channel = writer.register_channel(TOPICS[IMAGE], 'cdr', writer.register_schema(IMAGE, 'ros2msg', definition.encode()))
        writer.flush()
        for index in range(count):
            message = message_of(store, 'mcap', IMAGE, index, np.zeros((height, width, 3), np.uint8)[:0])
            message.height, message.width, message.step = height, width, 3 * width
            size = height * message.step
            begin = bytes(store.serialize_cdr(message, IMAGE))[:-4] + size.to_bytes(4, 'little')
            file.write(struct.pack('<BQHIQQ', 5, 22 + len(begin) + size, channel, index, stamp_of(index), stamp_of(index)) + begin)
            file.seek(size, 1)
        writer.finish()
    return path


def cut(path: Path, share: float) -> Path:
    """The first part of a file, as it is when the power fails."""
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])
    return path


