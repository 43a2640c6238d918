"""Recordings: bags of ROS 1 and ROS 2 as one stream of stamped images.

`Recording.open` reads one; it needs `rosbags` and `mcap`, which are imported when a bag is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evitif.recording.errors import RecordingError
from evitif.recording.kinds import is_recording, split_source

if TYPE_CHECKING:
    from evitif.recording.images import RecordedImage, Recording

__all__ = ['RecordedImage', 'Recording', 'RecordingError', 'is_recording', 'split_source']


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in ('RecordedImage', 'Recording'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        from evitif.recording import images
    except ImportError as error:
        if (error.name or '').startswith('evitif'):
            raise
        raise RecordingError(f'a bag cannot be read without the Python package {error.name}: `pip install rosbags mcap` installs what '
                             'reads bags') from None
    return getattr(images, name)
