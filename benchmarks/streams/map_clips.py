"""Clips of which something is known at each place, masks or depth, and evitif as a contestant whose head answers.

An answer is the number of a map among those that were seen so far, so that the codecs of `benchmarks.streams.codecs` are contestants as
they are: the whole model and the same head look at what was decoded. All maps are as the robot gets them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.part import ROOT
from benchmarks.streams.clips import NO_ANSWER, Clip, Source
from benchmarks.streams.contestant import DEADLINE_S, Run
from benchmarks.streams.evitif_split import BEGIN_S, Simulation, Split
from benchmarks.streams.traces import Trace
from evitif.heads import Features
from evitif.heads.head import Asked
from evitif.heads.maps import DepthMap, PlaceMap
from evitif.heads.segment import SegmentHead
from evitif.image_size import size_text
from evitif.pipeline.arriving_maps import KINDS
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.strategy import Outcome
from evitif.protocol.events import EdgeEvent, MapArrived
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.wire.map_part import MapPart
from evitif.settings import SplitSettings
from evitif_lab.data.places import UNLABELLED, open_places
from evitif_lab.trials.place_figures import DepthFigures, MaskFigures


@dataclass(frozen=True, kw_only=True)
class PlaceSource(Source):
    """
    :ivar data: as `open_places` takes it; its frames lie in their order
    :ivar head: the folder of a head for masks or depth, which looks at pictures of `image_size`, made so by `fit`
    """

    head: str
    image_size: tuple[int, int]
    fit: str = 'auto'
    void: int | None = None

    @property
    def settings(self) -> dict:
        """As `Source.settings`."""
        return {**super().settings, 'heads': self.head, 'image_size': size_text(self.image_size), 'fit': self.fit}


class PlaceClip(Clip):
    """Frames as the model sees them, and what is known of each place of them.

    :ivar frames: as `Clip.frames`
    :ivar maps: uint8 [h, w] each, that were said so far
    :ivar answers: int [n], the numbers of the whole model's on `frames`
    :raises ValueError: the model, the head or the frames cannot be used (ModelError, ArtifactError, DatasetError)
    """

    def __init__(self, source: PlaceSource, count: int | None = None):
        self.source, self.name, self.rate_hz = source, source.name, source.rate_hz
        self.model = CutModel.load(SplitSettings(**source.settings, quantisation='int8'), with_heads=True)
        (self.head,) = self.model.heads
        preprocessor = self.model.preprocessor
        self._mean, self._std = (torch.tensor(preprocessor.data_config[name])[:, None, None] for name in ('mean', 'std'))
        path = ROOT / source.data
        labels = self.head.labels if path.exists() and self.head.labels else None
        places = open_places(str(path) if path.exists() else source.data, 'test', self.head.task, labels, source.void)
        samples = [places[index] for index in range(min(count or source.frames, source.frames, len(places)))]
        self.frames = np.stack([self._seen(sample.image) for sample in samples])
        self._truths = [sample.truth for sample in samples]
        self.maps: list[np.ndarray] = []
        self._known: dict[bytes, int] = {}
        self.answers = self.classes([*self.frames])

    def number(self, said: PlaceMap) -> int:
        """That of a map, from now on."""
        self.maps.append(said.values)
        return len(self.maps) - 1

    @torch.inference_mode()
    def _numbers(self, pictures: list[np.ndarray]) -> list[int]:
        split = self.model.split
        found = []
        for picture in pictures:
            features = Features.of(split, split.head(self.normalised([picture])), self.head.reading.blocks)
            (said,) = self.head.results(features, [Asked()])
            assert isinstance(said, PlaceMap)
            found.append(self.number(said))
        return found

    def figures(self, answers: np.ndarray) -> MaskFigures | DepthFigures:
        """How good the maps of these numbers are, one a frame; nothing is known where there is NO_ANSWER."""
        masks = isinstance(self.head, SegmentHead)
        figures = MaskFigures(self.head.labels) if masks else DepthFigures()
        for answer, truth in zip(answers.tolist(), self._truths, strict=True):
            values = np.full((1, 1), UNLABELLED if masks else 0, np.uint8) if answer == NO_ANSWER else self.maps[answer]
            if isinstance(figures, MaskFigures):
                rows, columns = (np.arange(size) * places // size for size, places in zip(truth.shape, values.shape, strict=True))
                figures.add_classes(values[np.ix_(rows, columns)], truth)
            else:
                metres = np.nan_to_num(DepthMap.in_metres(values), nan=1e-3)
                figures.add(torch.from_numpy(metres)[None], [truth])
        return figures


@dataclass(frozen=True)
class MapSplit(Split):
    """As `Split`, of a clip of places: the answer is the head's map, which travels back in MAP datagrams."""

    def __call__(self, clip: Clip, trace: Trace) -> Run:
        """Send the clip."""
        return _MapSimulation(self, clip, trace).run()


class _MapSimulation(Simulation):
    """Maps are sent behind the answers; of one that comes in parts those that came by the deadline count."""

    def _answer(self, frame: ReceivedFrame, outcome: Outcome) -> None:
        super()._answer(frame, outcome)
        (said,) = outcome.heads.values()
        assert isinstance(said, PlaceMap)
        contents = said.parts(self._bridge.map_room(frame.session_id))
        parts = [MapPart(frame.frame_id, frame.capture_stamp_ns, 0, number, len(contents), content)
                 for number, content in enumerate(contents)]
        self._bridge.send_map(frame.session_id, parts, self._time.now)

    def _take(self, event: EdgeEvent) -> None:
        super()._take(event)
        if isinstance(event, MapArrived):
            number = event.part.frame_id
            if self._time.now <= BEGIN_S + number / self._clip.rate_hz + DEADLINE_S:
                parts = self._came.setdefault(number, [])
                parts.append(event.part.content)
                assert isinstance(self._clip, PlaceClip)
                self._answers[number] = self._clip.number(KINDS[self._clip.head.task].join(parts))

    def _say(self, number: int, class_id: int, repeated: bool = False) -> None:
        """The model's own classes do not count."""

    def run(self) -> Run:
        """As `Simulation.run`."""
        self._came: dict[int, list[bytes]] = {}
        return super().run()
