"""The strategy `selection` on a robot that runs no network: it sends the patches of the image that moved.

The pixels of a patch are coded as the tokens of `split` are: in the metric of the large model's answer, in reference to what an answer said
that the bridge has. So no threshold says what moved: a patch is sent where that is worth its bytes, and noise that the answer does not
depend on is not. The frame takes a coarser step for all patches where much moved and the link carries little, and finer ones follow.
"""

from __future__ import annotations

import time

import numpy as np

from evitif.pipeline.coded_edge import coded_edge
from evitif.pipeline.coded_table import CodedTable, FittedCode
from evitif.pipeline.loading import labels_of, placement_of
from evitif.pipeline.strategy import NO_ROWS, EdgeStrategy, Encoded, Observation
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.selection import EntropyPatchCode
from evitif.settings import SelectionEdgeSettings
from evitif.vocabulary import Quantisation, Strategy


class MovedPatchesEdge(EdgeStrategy[np.ndarray]):
    """The code of the large model's patches, and nothing else; without the bridge there is no answer but the last one."""

    name = Strategy.SELECTION
    answers_alone = keeps_content = False

    def __init__(self, config: SelectionEdgeSettings):
        self.placement = placement_of(config)
        code = EntropyPatchCode.beside(config.model).seeing(config.input_size, config.fit)
        self._pixels = pixels = code.pixels
        self.parameters = code.stream_parameters()
        self.labels = labels_of(config, pixels.labels, self.parameters.classes)
        self.description = f'no model on the robot: {pixels.model} gets the patches that moved'
        self._preprocessor = pixels.preprocessor()
        self._coded = coded_edge(FittedCode(code.code, CodedTable.of(code.description)), self.parameters, config)

    def observe(self, pixels: np.ndarray, uplink: UplinkState) -> Observation[np.ndarray]:
        began = time.monotonic()
        patches = self._pixels.patches_in(self._preprocessor(pixels))
        return Observation(self._preprocessor.crop(*pixels.shape[:2]), time.monotonic() - began, 0.0, patches)

    def encode(self, observation: Observation[np.ndarray], uplink: UplinkState) -> Encoded:
        coded = self._coded.encode(observation.content, observation.frame_id, uplink)
        return Encoded(NO_ROWS, Quantisation.CODED, patch_copies=self._coded.copies, coded=coded)

    def acknowledge(self, session_id: int, frame_id: int, received: np.ndarray) -> None:
        self._coded.acknowledge(session_id, frame_id, received)

    def answer_alone(self, observation: Observation[np.ndarray]) -> np.ndarray:
        raise NotImplementedError('a robot without a model has no answer of its own')

    def warm_up(self) -> None:
        height, width = self.parameters.image_size
        self.observe(np.zeros((height, width, 3), np.uint8), UplinkState())
