"""What heads say of each place, on the robot: parts put together, and laid over the image that they are of."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evitif.bounded import BoundedDict
from evitif.heads import HeadDescription
from evitif.heads.maps import DepthMap, Mask, PlaceMap
from evitif.protocol.wire.map_part import MapPart
from evitif.vocabulary import Task

KINDS: dict[Task, type[PlaceMap]] = {Task.SEGMENT: Mask, Task.DEPTH: DepthMap}
FRAMES = 16             # sent last, of which maps may still come
_WAITING = 16           # maps of which parts have come and others not


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """What is kept of a frame that was sent until its maps come."""

    frame_id: int
    capture_stamp_ns: int
    source_frame: str
    image: np.ndarray                               # uint8 [H, W, 3]
    context: object
    crop: tuple[float, float, float, float]         # (left, top, width, height) of the image, what the model saw


@dataclass(frozen=True, eq=False)
class PlaceAnswer:
    """What a head says of each place of a frame; unknown, with confidence 0, where it did not arrive, or the model did not look."""

    head: HeadDescription
    frame: SeenFrame
    result: PlaceMap

    def at_image(self) -> tuple[np.ndarray, np.ndarray]:
        """The map's values and the confidence, uint8 [H, W] of the image."""
        height, width = self.frame.image.shape[:2]
        return _laid(self.result.values, height, width, self.frame.crop, self.result.UNKNOWN), \
            _laid(self.result.confidence, height, width, self.frame.crop, 0)

    def metres(self) -> np.ndarray:
        """Of a depth image: float32 [H, W] of the image, NaN where it is unknown."""
        assert isinstance(self.result, DepthMap)
        return DepthMap.in_metres(self.at_image()[0])


class ArrivingMaps:
    """The maps of one stream. `send` and `take` may come from different threads.

    A map is there when its last part has come; one of which parts are missing is taken as it is once a part of a newer one comes.

    :param heads: in the order in which the wire counts them
    """

    def __init__(self, heads: Sequence[HeadDescription]):
        self._heads = heads
        self._frames: BoundedDict[int, SeenFrame] = BoundedDict(FRAMES)
        self._parts: BoundedDict[tuple[int, int], list[MapPart]] = BoundedDict(_WAITING)       # by head and frame
        self._lock = threading.Lock()

    @property
    def expected(self) -> bool:
        """Whether any head says something of each place."""
        return any(head.task in KINDS for head in self._heads)

    def sent(self, frame: SeenFrame) -> None:
        """A frame is sent."""
        with self._lock:
            self._frames[frame.frame_id] = frame

    def take(self, part: MapPart) -> list[PlaceAnswer]:
        """A part has come; returns the maps that are there with it. Raises ValueError for a part that no head says."""
        if part.head >= len(self._heads) or self._heads[part.head].task not in KINDS:
            raise ValueError(f'a part of a map of head {part.head}, which says none')
        with self._lock:
            place = part.head, part.frame_id
            there = self._parts.get(place)
            if there is not None and there[0].parts != part.parts:
                raise ValueError(f'parts of a map that has {there[0].parts} and {part.parts} parts')
            self._parts[place] = [*(there or ()), part]
            newer = [other for other in self._parts if other[0] == part.head and 0 < (part.frame_id - other[1]) % 2**32 < 2**31]
            ready = [*newer, *([place] if len(self._parts[place]) == part.parts else [])]
            found = [(self._frames.get(frame_id), self._heads[head], self._parts.pop((head, frame_id))) for head, frame_id in ready]
        return [PlaceAnswer(head, frame, KINDS[head.task].join([one.content for one in parts])) for frame, head, parts in found
                if frame is not None]


def _laid(values: np.ndarray, height: int, width: int, crop: tuple[float, float, float, float], unknown: int) -> np.ndarray:
    """A map over the `crop` of an image [height, width], each pixel that of the nearest place; `unknown` outside."""
    left, top, across, down = crop
    rows = np.floor((np.arange(height) + 0.5 - top) * values.shape[0] / down).astype(int)
    columns = np.floor((np.arange(width) + 0.5 - left) * values.shape[1] / across).astype(int)
    inside_y, inside_x = (rows >= 0) & (rows < values.shape[0]), (columns >= 0) & (columns < values.shape[1])
    laid = np.full((height, width), unknown, values.dtype)
    laid[np.ix_(inside_y, inside_x)] = values[np.ix_(rows[inside_y], columns[inside_x])]
    return laid
