"""What a strategy computes: for one image on the robot, and for frames off-board. The runtimes do everything else.

A strategy has no socket and no thread, and a clock only to measure its own parts.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, TypeVar

import numpy as np

from evitif.heads.artifact import HeadDescription
from evitif.heads.results import Result
from evitif.model.device import Placement
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.frames.coded_frame import CodedFrame
from evitif.protocol.frames.packetiser import TokenFrame
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.wire.answer import Answer
from evitif.protocol.wire.coded import CodedTokens
from evitif.protocol.wire.parameters import StreamParameters
from evitif.vocabulary import Quantisation, RecoveryName, Strategy

NAN = math.nan
NO_ROWS = np.zeros((0, 0), np.uint8)       # of a frame that is coded

Content = TypeVar('Content')


@dataclass(eq=False)
class Observation(Generic[Content]):
    """What the robot made of one image.

    `content` is the strategy's own, for its later steps. If the robot is sure of the class, `probabilities` (float32 [classes])
    are the answer, and nothing is sent.
    """

    crop: tuple[float, float, float, float]   # (left, top, width, height) of the source image that the model saw, pixels
    preprocess: float                         # seconds
    head: float                               # seconds
    content: Content
    probabilities: np.ndarray | None = None
    frame_id: int = 0                         # u32, of the frame that it is sent as; set by the runtime before `encode`


@dataclass(frozen=True, eq=False)
class Encoded:
    """What is sent of an image, see `TokenFrame`; or, where `coded` is given, `CodedFrame`."""

    rows: np.ndarray                          # uint8 [units, row_bytes]
    quantisation: Quantisation                # one of the stream's, or CODED
    chosen: np.ndarray | None = None          # int [n], the tokens that travel, most important first; None: all
    patch_copies: int = 0                     # 0: the packetiser decides
    min_packets: int = 0                      # 0: the same
    remark: str = ''                          # a sentence for the log, if something has changed
    coded: CodedTokens | None = None          # then there are no rows

    def frame(self, frame_id: int, capture_stamp_ns: int, source_frame: str) -> TokenFrame | CodedFrame:
        """The frame that is sent."""
        if self.coded is not None:
            return CodedFrame(frame_id, capture_stamp_ns, source_frame, self.coded)
        return TokenFrame(frame_id, capture_stamp_ns, source_frame, self.rows, self.quantisation, self.chosen, self.patch_copies,
                          self.min_packets)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a strategy says of one frame off-board."""

    class_ids: tuple[int, ...]                # most likely first
    scores: tuple[float, ...]                 # probabilities
    received: np.ndarray                      # bool [tokens], those that had a part in it
    recovery: RecoveryName                    # what was done about the others
    recovery_s: float                         # seconds to decode the rows and recover lost tokens
    tail_s: float                             # seconds to answer from the tokens
    remembered: np.ndarray | None = None      # bool [tokens], those that were remembered from earlier frames; None: none
    memory_age_s: float = NAN                 # their mean age; NaN: there are none
    motion: float = NAN                       # 1/s, how fast the scene changes (`evitif.recovery.memory`); NaN unknown
    heads: dict[str, Result] = field(default_factory=dict)      # what other heads say, those that somebody reads, by name
    sent: int | None = None                   # tokens that the frame had, where the strategy knows better than its datagrams say

    def answer(self, frame: ReceivedFrame, strategy: Strategy, began: float, done: float, heads: Mapping[int, bytes] = MappingProxyType({}),
               ) -> Answer:
        """The answer to the frame that this came of.

        :param began: when it was taken up, and `done` when it was answered, seconds on the clock of `frame.first_arrival`
        :param heads: what travels of what they say
        """
        return Answer(
            frame_id=frame.frame_id, capture_stamp_ns=frame.capture_stamp_ns, class_ids=self.class_ids, scores=self.scores,
            strategy=strategy, recovery=self.recovery, packets_received=frame.packets_received, packets_expected=frame.packets_expected,
            bytes_received=frame.bytes_received, tokens_received=int(self.received.sum()), tokens_expected=len(self.received),
            received=self.received, packet_error_rate=frame.packet_error_rate, first_arrival=frame.first_arrival,
            wait_s=max(0.0, began - frame.first_arrival), recovery_s=self.recovery_s, tail_s=self.tail_s,
            hold_s=max(0.0, done - frame.first_arrival), remembered=self.remembered, memory_age_s=self.memory_age_s, motion=self.motion,
            heads=dict(heads))


class EdgeStrategy(ABC, Generic[Content]):
    """The robot's share. Its constructor loads the models: raises ModelError, ArtifactError or ValueError."""

    name: Strategy
    parameters: StreamParameters
    labels: tuple[str, ...]                   # of each class
    placement: Placement
    description: str                          # for the log: which model, and how much of it runs here
    heads: tuple[HeadDescription, ...] = ()   # in the order of the parameters
    devices: tuple[str, ...] = ()             # of `partition`: the names of all, in the order of the tokens
    answers_alone: bool                       # `answer_alone` is called when no answer comes
    keeps_content: bool = True                # an observation's content is needed after it was encoded
    joins_by_stamp: bool = False              # an image's stamp tells which other devices' frames show the same scene

    @abstractmethod
    def observe(self, pixels: np.ndarray, uplink: UplinkState) -> Observation[Content]:
        """Look at an image uint8 [H, W, 3] RGB."""

    @abstractmethod
    def encode(self, observation: Observation[Content], uplink: UplinkState) -> Encoded:
        """Encode an observation for the bridge."""

    @abstractmethod
    def answer_alone(self, observation: Observation[Content]) -> np.ndarray:
        """Probabilities float32 [classes] without the bridge; or [classes + 1] with that of 'none of the classes I know' last."""

    def refine(self, observation: Observation[Content], class_ids: tuple[int, ...],
               scores: tuple[float, ...]) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Combine the bridge's most likely classes with what the robot knows of the image."""
        return class_ids, scores

    def acknowledge(self, session_id: int, frame_id: int, received: np.ndarray) -> None:
        """The bridge says that it has the tokens `received`, bool [tokens], of a frame of this session. From the socket's thread."""

    @abstractmethod
    def warm_up(self) -> None:
        """Run everything once: the first run allocates and is several times slower."""


class BridgeStrategy(ABC):
    """The off-board share. Its constructor loads the models: raises ModelError, ArtifactError or ValueError."""

    name: Strategy
    labels: tuple[str, ...]
    placement: Placement
    description: str
    heads: tuple[HeadDescription, ...] = ()
    heads_read: Callable[[ReceivedFrame], Collection[str]] | None = None      # those whose results somebody reads; None: all
    devices: tuple[str, ...] = ()
    streams: tuple[StreamParameters, ...]     # what it accepts: one, or of `partition` one for each device
    recovery_sentence: str                    # for the log: what is done about lost tokens

    @abstractmethod
    def answer_batch(self, frames: Sequence[ReceivedFrame]) -> list[Outcome]:
        """Answer frames of one robot or of several, in their order."""

    def forget(self, session_id: int) -> None:      # noqa: B027 (most keep nothing)
        """A session has ended: what is kept of its frames is of no use any more. From the socket's thread."""

    @abstractmethod
    def warm_up(self, max_batch: int = 1) -> int:
        """Run everything once, and return how many frames, at most `max_batch`, should be answered at once."""


def blank_frame(parameters: StreamParameters, received: np.ndarray) -> ReceivedFrame:
    """A frame of zeros to warm up with, of which the units `received`, bool [units], arrived."""
    return ReceivedFrame(
        session_id=0, robot='', frame_id=0, capture_stamp_ns=0, source_frame='',
        rows=np.zeros((parameters.units, parameters.row_bytes), np.uint8), received=received, packets_received=1, packets_expected=1,
        bytes_received=0, packet_error_rate=0.5, first_arrival=0.0, ready_at=0.0, complete=bool(received.all()),
        quantisation=Quantisation(parameters.quantisation), units_sent=parameters.units)
