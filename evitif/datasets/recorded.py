"""The images of a recording as a data set: its earlier part trains, its last part judges.

Neighbouring frames of a video are nearly the same picture, so a random division would judge by what it trained with. Here time divides,
and the frames between the two parts are used by neither.
"""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

import cv2
import numpy as np

from evitif.datasets.errors import DatasetError
from evitif.datasets.recorded_labels import UNLABELLED, LabelOf, read_labels
from evitif.datasets.sample import Sample
from evitif.recording import RecordingError

if TYPE_CHECKING:
    from evitif.recording import RecordedImage, Recording

TRAINING, JUDGING = 0.75, 0.8       # the share of the time where training ends, and where judging begins
MOST = 2000                         # images of a part
_ALIKE = 1.5                        # mean difference of small grey pictures, 0 to 255, below which two images count as one
_SMALL = (24, 18)
LABEL_TYPE = 'evitif_msgs/msg/LabelStamped'


class RecordedImages:
    """Images of a topic, evenly spread over their part of the time, near-duplicates left out. They are files while the object lives.

    `class_names` and ids come from `labels`, else from a topic of evitif_msgs/LabelStamped, where the recording has one.

    :param labels: a CSV file with labels (`read_labels`); images that have none are left out
    :param split: `train`: the first three quarters of the time; `test`: the last fifth; `all`
    :param most: images at most
    :param say: gets a sentence on whatever a user should know
    :raises DatasetError: the recording cannot be read, has no such images, or the disk is full
    """

    def __init__(self, source: str, split: str = 'all', most: int = MOST, say: Callable[[str], None] = lambda sentence: None,
                 labels: str | None = None):
        self.split = split
        self.folder = Path(tempfile.mkdtemp(prefix='evitif-recording-'))
        self._clean = weakref.finalize(self, rmtree, self.folder, True)
        self.items: list[tuple[Path, int, str]] = []
        try:
            from evitif.recording import Recording
            with Recording.open(source, say=say) as recording:
                label_of, self.class_names = _labels(recording) if labels is None else read_labels(labels, recording)
                alike = self._fill(recording, label_of, split, most, labels is not None)
                seen = recording.skipped
        except RecordingError as error:
            raise DatasetError(str(error)) from None
        except OSError as error:
            self._clean()
            raise DatasetError(f'the images of {source} cannot be kept in {self.folder}: {error.strerror or error}') from None
        if not self.items:
            raise DatasetError(f'{source} has no image that can be read in its part {split}' + (f' ({seen} left out)' if seen else ''))
        part = {'train': 'the first three quarters of the time', 'test': 'the last fifth of the time'}.get(split, 'the whole time')
        left_out = f'; {alike} that hardly differ from the one before are left out' if alike else ''
        say(f'{source}: {len(self.items)} images of {part}{left_out}')

    def _fill(self, recording: Recording, label_of: LabelOf, split: str, most: int, only_labelled: bool) -> int:
        start_s, stop_s, every = _part(recording, split, most)
        last, alike = None, 0
        for image in recording.images(start_s, stop_s - start_s, every):
            small = cv2.resize(cv2.cvtColor(image.image, cv2.COLOR_RGB2GRAY), _SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
            if last is not None and np.abs(small - last).mean() < _ALIKE:
                alike += 1
                continue
            class_id, label = label_of(image)
            if class_id < 0 and only_labelled:
                continue
            last = small
            if len(self.items) < most:
                self._keep(image, class_id, label)
        return alike

    def _keep(self, image: RecordedImage, class_id: int, label: str) -> None:
        path = self.folder / f'{len(self.items):06}.png'
        keep_image(path, image.image)
        self.items.append((path, class_id, label))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        path, class_id, label = self.items[index]
        return Sample(kept_image(path), class_id, label, path.name)


def keep_image(path: Path, image: np.ndarray) -> None:
    """Write an image uint8 [H, W, 3] RGB for a while, without loss. Raises OSError where the disk is full."""
    encoded = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    path.write_bytes(encoded.tobytes())


def kept_image(path: Path) -> np.ndarray:
    """Read what `keep_image` wrote. Raises DatasetError where it has gone."""
    image = cv2.imread(str(path))
    if image is None:
        raise DatasetError(f'{path} has gone: it is a copy of an image of a recording, kept while a program runs')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def recorded_paths(source: str, count: int, length: int, split: str = 'train') -> Iterator[list[np.ndarray]]:
    """`count` runs of `length` frames that follow one another, uint8 [H, W, 3] RGB each, evenly spread over a part of a recording.

    Raises DatasetError where the recording cannot be read or has fewer frames than a run.
    """
    try:
        from evitif.recording import Recording
        with Recording.open(source) as recording:
            start_s, stop_s, _ = _part(recording, split, MOST)
            since = recording.times - recording.start_ns
            total = int(((since >= round(start_s * 1e9)) & (since < round(stop_s * 1e9))).sum())
            firsts = iter(np.unique(np.linspace(0, max(total - length, 0), count).astype(int)).tolist())
            first, runs, found = next(firsts), [], 0
            for index, image in enumerate(recording.images(start_s, stop_s - start_s)):
                if first is not None and index == first:
                    runs.append([])
                    first = next(firsts, None)
                for run in runs:
                    run.append(image.image)
                while runs and len(runs[0]) == length:
                    found += 1
                    yield runs.pop(0)
    except RecordingError as error:
        raise DatasetError(str(error)) from None
    if not found:
        raise DatasetError(f'{source} has {total} images in its part {split}: expected at least {length} that follow one another')


def _part(recording: Recording, split: str, most: int) -> tuple[float, float, int]:
    """Seconds from the first image at which a part begins and ends, and of how many messages one is taken."""
    first, last, count = recording.extent()
    length = (last - first) / 1e9
    begin, end = {'train': (0.0, TRAINING), 'test': (JUDGING, 1.0)}.get(split, (0.0, 1.0))
    every = max(1, math.ceil(count * (end - begin) / (2 * most)))       # half of them may be alike
    return begin * length, end * length + (1e-3 if split != 'train' else 0.0), every


def _labels(recording: Recording) -> tuple[LabelOf, tuple[str, ...]]:
    """Class and name of an image by its stamp, and the names of the classes."""
    topics = [topic.name for topic in recording.bag.topics.values() if topic.kind == LABEL_TYPE]
    labels: dict[int, tuple[int, str]] = {}
    names: dict[int, str] = {}
    for record in recording.bag.records(topics) if topics else ():
        message = recording.bag.message(record.topic, record.data)
        stamp = message.header.stamp
        labels[stamp.sec * 1_000_000_000 + stamp.nanosec] = (message.class_id, message.label)
        if message.class_id >= 0:
            names[message.class_id] = message.label
    return lambda image: labels.get(image.stamp_ns, UNLABELLED), \
        tuple(names.get(index, str(index)) for index in range(max(names, default=-1) + 1))
