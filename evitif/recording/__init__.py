"""Recordings: bags of ROS 1 and ROS 2 as one stream of stamped images."""

from evitif.recording.bag import Bag, Record, Topic, is_bag, open_bag
from evitif.recording.errors import RecordingError
from evitif.recording.images import IMAGE_TYPES, RecordedImage, Recording, is_recording, recorded_images

__all__ = ['IMAGE_TYPES', 'Bag', 'Record', 'RecordedImage', 'Recording', 'RecordingError', 'Topic', 'is_bag', 'is_recording', 'open_bag',
           'recorded_images']
