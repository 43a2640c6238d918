"""What a strategy computes: for one image on the robot, and for one frame off-board. The runtimes do everything else.

An `EdgeStrategy` has no socket, thread or clock but for measuring itself; nor has a `BridgeStrategy`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evitif.model.device import Placement
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.wire.answer import Answer
from evitif.protocol.wire.parameters import StreamParameters
from evitif.vocabulary import Strategy


@dataclass(eq=False)
class Observation:
    """What the robot made of one image.

    `content` is the strategy's own, for what comes later. Where the robot is sure of the class, `probabilities`
    (float32 [classes]) are the answer, and nothing is sent.
    """

    crop: tuple[float, float, float, float]   # (left, top, width, height) of the source image that the model saw, pixels
    preprocess: float                         # seconds
    head: float                               # seconds
    content: object
    probabilities: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Encoded:
    """What is sent of an image: uint8 [units, row_bytes] in one of the stream's quantisations; see `TokenFrame`."""

    rows: np.ndarray
    quantisation: str
    sent: np.ndarray | None = None            # int [n], tokens, most important first; None: all
    patch_copies: int = 0                     # 0: as the packetiser has it
    min_packets: int = 0                      # the same
    remark: str = ''                          # a sentence for the log, where something has changed


class EdgeStrategy(ABC):
    """The robot's share. Building one loads its models: raises ModelError, ArtifactError or ValueError."""

    name: Strategy
    parameters: StreamParameters
    labels: tuple[str, ...]                   # of each class
    placement: Placement
    description: str                          # for the log: which model, and how much of it runs here
    devices: tuple[str, ...] = ()             # of `partition`: all of them, as the tokens are
    answers_alone: bool                       # whether `answer_alone` is asked when no answer comes
    keeps_content: bool = True                # whether a observation's content is needed once it was encoded
    joins_by_stamp: bool = False              # whether an image's stamp is what other devices' shares of it are found by

    @abstractmethod
    def observe(self, pixels: np.ndarray, uplink: UplinkState) -> Observation:
        """Look at an image uint8 [H, W, 3] RGB."""

    @abstractmethod
    def encode(self, observation: Observation, uplink: UplinkState) -> Encoded:
        """What is to be sent of it."""

    @abstractmethod
    def answer_alone(self, observation: Observation) -> np.ndarray:
        """Probabilities float32 [classes] without the bridge; or [classes + 1], the last that it is a class which this
        robot does not know."""

    def refine(self, observation: Observation, class_ids: tuple[int, ...],
               scores: tuple[float, ...]) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """The bridge's most likely classes with what the robot knows of the image."""
        return class_ids, scores

    @abstractmethod
    def warm_up(self) -> None:
        """Run everything once: the first run allocates and is several times slower."""


class BridgeStrategy(ABC):
    """The off-board share. Building one loads its models: raises ModelError, ArtifactError or ValueError."""

    name: Strategy
    labels: tuple[str, ...]
    placement: Placement
    description: str
    devices: tuple[str, ...] = ()
    streams: tuple[StreamParameters, ...]     # what is taken: one, or of `partition` one for each device
    recovery_sentence: str                    # for the log: what is done about what did not arrive

    @abstractmethod
    def answer_batch(self, frames: Sequence[ReceivedFrame]) -> list[Answer]:
        """The answer to each frame, of one robot or of several; `first_arrival` was read from time.monotonic."""

    @abstractmethod
    def warm_up(self, max_batch: int = 1) -> int:
        """As EdgeStrategy's; returns how many frames, at most `max_batch`, should be answered at once."""
