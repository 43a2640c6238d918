"""Message definitions that bags without definitions (sqlite3 before Iron) leave out and `rosbags` does not bring.

From ffmpeg_image_transport_msgs 1.x and foxglove_msgs (foxglove-sdk); both have been as they are since they were published.
"""

_HEADER = 'std_msgs/Header header\n'
EXTRA_DEFINITIONS = {
    'ffmpeg_image_transport_msgs/msg/FFMPEGPacket': _HEADER + 'int32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n'
    'bool is_bigendian\nuint8[] data\n',
    'foxglove_msgs/msg/CompressedVideo': 'builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n',
    'evitif_msgs/msg/LabelStamped': _HEADER + 'int32 class_id\nstring label\n',
}
