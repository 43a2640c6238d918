"""One topic of a bag as stamped images: raw, compressed, or packets of a video."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

from evitif.image_transports import COMPRESSED, FFMPEG, FOXGLOVE, IMAGE, IMAGE_TYPES, base_topic, format_of
from evitif.pictures import PictureError, SignificantBits
from evitif.pictures.ros_images import ImageConversionError, compressed_image_to_rgb, image_to_rgb
from evitif.pictures.video_decoder import VideoDecoder, codec_of, is_key
from evitif.recording.bag import Bag, Topic, open_bag
from evitif.recording.errors import RecordingError
from evitif.recording.kinds import split_source

_DEPTH = re.compile(r'(^|/)(depth|compressedDepth)', re.IGNORECASE)
_VIDEO_FORMATS = re.compile(r'h\.?26[45]|hevc|av1|vp9', re.IGNORECASE)
_SAID = 5           # images that cannot be read, one by one


@dataclass(frozen=True)
class RecordedImage:
    """An image, uint8 [H, W, 3] RGB, of a topic."""

    image: np.ndarray
    stamp_ns: int           # its header's
    frame_id: str
    received_ns: int        # when the recorder got it
    number: int             # among the messages of the topic, from 0 on or from the first that was asked for


@dataclass(frozen=True)
class _Encoded:
    message: Any
    stamp_ns: int
    frame_id: str
    received_ns: int
    number: int


class Recording:
    """The images of one topic of an open bag. `skipped` counts those that could not be read.

    :param significant_bits: of samples of more than 8 bits; 0: by what the images show
    :param say: gets a sentence on whatever a user should know
    """

    def __init__(self, bag: Bag, topic: Topic, significant_bits: int, say: Callable[[str], None]):
        self.bag, self.topic, self._say = bag, topic, say
        self.skipped = 0
        self._significant = SignificantBits(significant_bits, lambda sentence: say(f'{self.name}: {sentence}'))
        self._started: int | None = None

    @classmethod
    def open(cls, source: str, significant_bits: int = 0, say: Callable[[str], None] = lambda sentence: None) -> Recording:
        """Open `rover.mcap`, or `rover.mcap:/camera/image_raw` where it has several topics of images.

        Raises RecordingError where the bag cannot be read, or has none, several, or not the asked one; it says what is in it.
        """
        path, topic = split_source(source)
        bag = open_bag(path, say)
        try:
            return cls(bag, _choose(bag, topic), significant_bits, say)
        except RecordingError:
            bag.close()
            raise

    @property
    def name(self) -> str:
        """As a user writes it."""
        return f'{self.bag.path}:{self.topic.name}'

    def close(self) -> None:
        """Give the bag back."""
        self.bag.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def start_ns(self) -> int:
        """When the recorder got the first message of the topic. Raises RecordingError where there is none."""
        if self._started is None:
            first = next(self.bag.records([self.topic.name]), None)
            if first is None:
                raise RecordingError(f'{self.name} has no message that can be read')
            self._started = first.received_ns
        return self._started

    def extent(self) -> tuple[int, int, int]:
        """When the recorder got the first and the last message of the topic, and how many there are. Goes through the bag once."""
        times = self.times
        if not len(times):
            raise RecordingError(f'{self.name} has no message that can be read')
        self._started = int(times[0])
        return self._started, int(times.max()), len(times)

    @cached_property
    def times(self) -> np.ndarray:
        """When the recorder got each message of the topic, int64 [n] ns. Goes through the bag once."""
        return np.fromiter((record.received_ns for record in self.bag.records([self.topic.name])), np.int64)

    def images(self, start_s: float = 0.0, duration_s: float = math.inf, every: int = 1) -> Iterator[RecordedImage]:
        """The images received from `start_s` after the first one, for `duration_s` seconds, of every `every` messages one."""
        first_ns = self.start_ns + round(start_s * 1e9)
        stop_ns = None if math.isinf(duration_s) else first_ns + round(duration_s * 1e9)
        video = self.topic.kind in (FFMPEG, FOXGLOVE) or self._is_video()
        begin = None if start_s <= 0 else self._key_before(first_ns) if video else first_ns
        encoded = self._encoded(begin, stop_ns)
        found = self._of_video(encoded) if video else self._of_pictures(encoded, every)
        for image in found:
            if image.received_ns >= first_ns and (not video or image.number % every == 0):
                yield image

    # -- messages ----------------------------------------------------------------------------------------------------------------

    def _encoded(self, begin: int | None, stop_ns: int | None) -> Iterator[_Encoded]:
        for number, record in enumerate(self.bag.records([self.topic.name], begin, stop_ns)):
            try:
                message = self.bag.message(self.topic.name, record.data)
                stamp_ns, frame_id = _header(message, self.topic.kind)
            except (RecordingError, AttributeError) as error:
                reason = str(error) if isinstance(error, RecordingError) else f'its {self.topic.kind} lacks what that type has: {error}'
                self._skip(number, reason)
                continue
            yield _Encoded(message, stamp_ns, frame_id, record.received_ns, number)

    def _of_pictures(self, encoded: Iterator[_Encoded], every: int) -> Iterator[RecordedImage]:
        convert = image_to_rgb if self.topic.kind == IMAGE else compressed_image_to_rgb
        for one in encoded:
            if one.number % every:
                continue
            try:
                message = one.message if self.topic.kind == IMAGE else \
                    SimpleNamespace(format=one.message.format, data=bytes(one.message.data))
                image = convert(message, self._significant)
            except (ImageConversionError, AttributeError) as error:
                self._skip(one.number, str(error))
                continue
            yield RecordedImage(image, one.stamp_ns, one.frame_id, one.received_ns, one.number)

    def _of_video(self, encoded: Iterator[_Encoded]) -> Iterator[RecordedImage]:
        decoder: VideoDecoder[_Encoded] | None = None
        for one in encoded:
            try:
                if decoder is None:
                    decoder = VideoDecoder(codec_of(format_of(one.message)))
                pictures = decoder.decode(bytes(one.message.data), one, getattr(one.message, 'pts', None))
            except PictureError as error:
                if decoder is None:
                    raise RecordingError(f'{self.name}: {error}') from None
                self._skip(one.number, str(error))
                continue
            for image, of in pictures:
                yield RecordedImage(image, of.stamp_ns, of.frame_id, of.received_ns, of.number)
        if decoder is None:
            return
        for image, of in decoder.flush():
            yield RecordedImage(image, of.stamp_ns, of.frame_id, of.received_ns, of.number)
        if decoder.waiting:
            self.skipped += decoder.waiting
            self._say(f'{self.name}: left out {decoder.waiting} packets that come before a key frame, or after a lost one')

    def _is_video(self) -> bool:
        """Whether a topic of compressed images holds video packets, as some drivers do."""
        if self.topic.kind != COMPRESSED:
            return False
        first = next(self._encoded(None, None), None)
        return first is not None and bool(_VIDEO_FORMATS.search(getattr(first.message, 'format', '')))

    def _key_before(self, first_ns: int) -> int | None:
        """When the last key frame before `first_ns` came: decoding begins there."""
        found = None
        for one in self._encoded(None, first_ns + 1):
            flags = getattr(one.message, 'flags', 0)
            if flags & 1 or is_key(bytes(one.message.data), codec_of(format_of(one.message))):
                found = one.received_ns
        return found

    def _skip(self, number: int, reason: str) -> None:
        self.skipped += 1
        if self.skipped <= _SAID:
            more = '; no more of them are named' if self.skipped == _SAID else ''
            self._say(f'{self.name}: image {number} is left out: {reason}{more}')


def recorded_images(bag: Bag) -> list[Topic]:
    """The topics of a bag that hold images that can be read, depth left out."""
    return [topic for topic in bag.topics.values() if topic.kind in IMAGE_TYPES and topic.count != 0 and not _DEPTH.search(topic.name)]


def _choose(bag: Bag, topic: str) -> Topic:
    if topic:
        name = topic if topic in bag.topics or topic.startswith('/') else f'/{topic}'
        found = bag.topics.get(name)
        if found is None:
            raise RecordingError(f'{bag.path} has no topic {topic!r}: in it {_is_or_are(bag)}')
        if found.kind not in IMAGE_TYPES:
            raise RecordingError(f'{bag.path}: {name} is a {found.kind}: expected a topic of {", ".join(IMAGE_TYPES)}')
        return found
    found_all = recorded_images(bag)
    if not found_all:
        raise RecordingError(f'{bag.path} has no topic of images ({", ".join(IMAGE_TYPES)}): in it {_is_or_are(bag)}')
    # A topic and its transports are the same camera: the one with its pixels as they were.
    bases = {base_topic(each.name) for each in found_all}
    if len(bases) > 1:
        names = ', '.join(sorted(each.name for each in found_all))
        raise RecordingError(f'{bag.path} has several topics of images: name one, such as {bag.path}:{found_all[0].name} ({names})')
    return min(found_all, key=lambda each: IMAGE_TYPES.index(each.kind))


def _is_or_are(bag: Bag) -> str:
    return f'{"are" if len(bag.topics) > 1 else "is"} {bag.contents()}'


def _header(message: Any, kind: str) -> tuple[int, str]:
    if kind == FOXGLOVE:
        return message.timestamp.sec * 1_000_000_000 + message.timestamp.nanosec, message.frame_id
    stamp = message.header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec, message.header.frame_id
