"""Where the camera node's images come from: a data set, a folder, a recording, a video file or a camera device. No ROS here."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from evitif.datasets import BY_NAME, EXTENSIONS, DatasetError, ImageDataset, MovingFashion, is_named, open_images, say_once
from evitif.recording import RecordingError, is_recording

if TYPE_CHECKING:
    from evitif.recording import RecordedImage

_IMAGES = frozenset(EXTENSIONS) - {'.gif'}      # a GIF is a film here
_NAMED = 20             # images that cannot be read, in the log


class SourceError(ValueError):
    """A source that is not there or cannot be read; the message names it and what was expected."""


@dataclass(frozen=True)
class SourceImage:
    """uint8 [H, W, 3] RGB. `class_id` is None where the source has no labels, -1 where only this label is unknown.

    A recording also says when the image was received, in seconds after its first one, and the image's own stamp and frame_id.
    """

    image: np.ndarray
    name: str
    class_id: int | None = None
    label: str = ''
    at_s: float | None = None
    stamp_ns: int = 0
    frame_id: str = ''


class ImageSource(Protocol):
    """`next_image` returns None after the last one; `skipped` counts images that could not be read."""

    description: str
    labelled: bool
    skipped: int

    def next_image(self) -> SourceImage | None: ...

    def close(self) -> None: ...


def open_source(source: str, *, split: str = 'test', loop: bool = False, start_index: int = 0, shuffle: bool = False,
                seed: int = 0, size: tuple[int, int] = (0, 0), significant_bits: int = 0, start_s: float = 0.0,
                duration_s: float = math.inf, say: Callable[[str], None] = say_once) -> ImageSource:
    """Open a source by what it is: a data set, a folder, an image, a camera's number or /dev path, a bag, a video file.

    Of a bag the images from `start_s` seconds on are taken, for `duration_s`. `size` (width, height) in pixels is asked of a camera
    device, 0 is its own choice. `significant_bits` and `say`: see `evitif.datasets.ImageFolder`.
    Raises SourceError or evitif.datasets.DatasetError, naming the source.
    """
    path = Path(source).expanduser()
    if source.isdigit() or source.startswith('/dev/'):
        return CaptureSource.device(source, size)
    try:
        if is_recording(source):
            return RecordedSource(source, loop, start_s, duration_s, significant_bits, say)
    except RecordingError as error:
        raise SourceError(str(error)) from None
    if path.is_file() and path.suffix.lower() not in _IMAGES:
        return CaptureSource.video(path, loop)
    if path.exists() or is_named(source):
        images = open_images(source, split, significant_bits=significant_bits, say=say)
        return IndexedSource(source, images, loop, start_index, shuffle, seed, say)
    raise SourceError(f'image source {source!r} does not exist: expected {", ".join(BY_NAME)}, a folder of images, an image, '
                      "a bag, a video file, or a camera's number or /dev path")


class IndexedSource:
    """A data set or folder, in order or shuffled; of a data set of videos the clips are shuffled, and their frames stay in order."""

    def __init__(self, source: str, images: ImageDataset, loop: bool, start_index: int, shuffle: bool, seed: int,
                 say: Callable[[str], None]):
        self._images = images
        if start_index >= len(self._images):
            raise SourceError(f'start_index {start_index} is beyond the last image of {source!r}, '
                              f'which has {len(self._images)}: expected 0 to {len(self._images) - 1}')
        length = images.length if isinstance(images, MovingFashion) else 1
        clips = list(range(0, len(self._images), length))
        if shuffle:
            random.Random(seed).shuffle(clips)
        self._order = [first + number for first in clips for number in range(length)]
        self.description = f'{source}, {len(self._images)} images'
        self.labelled = bool(self._images.class_names)
        self.skipped = 0
        self._loop, self._say = loop, say
        self._unreadable: set[int] = set()
        self._indices = self._walk(start_index)

    def next_image(self) -> SourceImage | None:
        unreadable = 0
        for index in self._indices:
            try:
                sample = self._images[index]
            except DatasetError as error:
                self.skipped += 1
                self._say_skipped(index, error)
                unreadable += 1
                if unreadable >= len(self._order):  # else a loop over nothing but broken files would never end
                    raise
                continue
            return SourceImage(sample.image, sample.name, sample.class_id if self.labelled else None, sample.label)
        return None

    def _say_skipped(self, index: int, error: DatasetError) -> None:
        """Once for each image, and for a few images only."""
        if index in self._unreadable or len(self._unreadable) >= _NAMED:
            return
        self._unreadable.add(index)
        self._say(f'{error}: skipped' + ('; no more of them are named' if len(self._unreadable) == _NAMED else ''))

    def close(self) -> None:
        self._indices = iter(())

    def _walk(self, start: int) -> Iterator[int]:
        yield from self._order[start:]
        while self._loop:
            yield from self._order


class RecordedSource:
    """The images of one topic of a bag, with their times, stamps and frame_ids. Played again, times and stamps go on."""

    labelled = False

    def __init__(self, source: str, loop: bool, start_s: float, duration_s: float, significant_bits: int, say: Callable[[str], None]):
        from evitif.recording import Recording
        self._recording = Recording.open(source, significant_bits, say)
        self._loop, self._part = loop, (start_s, duration_s)
        self._images = self._recording.images(*self._part)
        self._begun: int | None = None
        self._ahead_ns = self._last_ns = self._gap_ns = 0       # of a repetition, behind the first run; received; between the last two
        self._found = False
        self.description = f'recording {self._recording.name}'

    @property
    def skipped(self) -> int:
        return self._recording.skipped

    def next_image(self) -> SourceImage | None:
        """The next image. Raises SourceError where the recording is gone, or has no image in the part that was asked for."""
        try:
            image = next(self._images, None)
            if image is None and self._loop and self._found:
                self._ahead_ns += self._last_ns - (self._begun or 0) + self._gap_ns
                self._images, self._last_ns = self._recording.images(*self._part), 0
                image = next(self._images, None)
        except RecordingError as error:
            raise SourceError(str(error)) from None
        if image is None:
            if not self._found:
                start, duration = self._part
                raise SourceError(f'{self._recording.name} has no image from {start:g} s on' + (
                    '' if math.isinf(duration) else f' for {duration:g} s'))
            return None
        return self._timed(image)

    def _timed(self, image: RecordedImage) -> SourceImage:
        self._found = True
        begun = self._begun = image.received_ns if self._begun is None else self._begun
        self._gap_ns = image.received_ns - self._last_ns if self._last_ns else self._gap_ns
        self._last_ns = image.received_ns
        at_ns = image.received_ns - begun + self._ahead_ns
        return SourceImage(image.image, f'image {image.number}', at_s=at_ns / 1e9, stamp_ns=image.stamp_ns + self._ahead_ns,
                           frame_id=image.frame_id)

    def close(self) -> None:
        self._recording.close()


class CaptureSource:
    """Frames of cv2.VideoCapture: a file or a device."""

    labelled = False
    skipped = 0

    def __init__(self, target: str | int, description: str, loop: bool, lost: str):
        # OpenCV's messages about a file that it cannot read are replaced by one sentence below.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self._target, self._loop, self._lost = target, loop, lost
        self.description = description
        self._capture = cv2.VideoCapture(target)
        self._frame = 0
        self._waiting = self._read()
        if self._waiting is None:
            self._capture.release()
            raise SourceError(lost)

    @classmethod
    def video(cls, path: Path, loop: bool) -> CaptureSource:
        return cls(str(path), f'video file {path}', loop,
                   f'video file {str(path)!r} cannot be read: expected a video that OpenCV can decode')

    @classmethod
    def device(cls, name: str, size: tuple[int, int]) -> CaptureSource:
        path = Path(f'/dev/video{name}' if name.isdigit() else name)
        if not path.exists():
            raise SourceError(f'camera device {str(path)!r} does not exist')
        source = cls(int(name) if name.isdigit() else name, f'camera device {path}', False,
                     f'camera device {str(path)!r} gives no image: is it in use, or may this user not read it?')
        source._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest image, not the oldest that waits
        for key, pixels in ((cv2.CAP_PROP_FRAME_WIDTH, size[0]), (cv2.CAP_PROP_FRAME_HEIGHT, size[1])):
            if pixels:
                source._capture.set(key, pixels)
        source._live = True
        return source

    _live = False

    def next_image(self) -> SourceImage | None:
        """The next frame. Raises SourceError where a device stopped giving images."""
        image, self._waiting = self._waiting, None
        if image is None:
            image = self._read()
        if image is None and self._loop:
            self._capture.release()
            self._capture = cv2.VideoCapture(self._target)
            self._frame, image = 0, self._read()
        if image is None:
            if self._live:
                raise SourceError(self._lost)
            return None
        self._frame += 1
        return SourceImage(image, f'frame {self._frame - 1}')

    def close(self) -> None:
        self._capture.release()

    def _read(self) -> np.ndarray | None:
        there, image = self._capture.read()
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if there and image is not None else None
