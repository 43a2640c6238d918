"""The words that have one meaning everywhere: on the wire, in parameters, in messages, in commands and in artifacts.

Each is a string, so it prints, compares and is stored as its value. The order of members that travel as a number is part of
the wire: a new one goes to the end.
"""

from __future__ import annotations

from enum import Enum
from functools import cache


class Word(str, Enum):
    """A string that is one of a fixed few."""

    def __str__(self) -> str:
        return self.value

    __repr__ = str.__repr__
    __format__ = str.__format__

    @classmethod
    def values(cls) -> tuple[str, ...]:
        """The words in the order of their definition."""
        return tuple(member.value for member in cls)

    @property
    def number(self) -> int:
        """What stands for the word on the wire."""
        return _numbers(type(self))[self]


@cache
def _numbers(kind: type[Word]) -> dict[Word, int]:
    return {word: number for number, word in enumerate(kind)}


class Strategy(Word):
    """Which part of the work the robot does."""

    SPLIT = 'split'                 # head on the robot, tail off-board
    SELECTION = 'selection'         # a light model on the robot, which sends the patches that matter when it is not sure
    PARTITION = 'partition'         # pruned sub-models on several devices, fused off-board


class Task(Word):
    """What a head says of an image (`evitif.heads`)."""

    CLASSIFY = 'classify'           # its class, of the head's own labels
    SEGMENT = 'segment'             # the class of each place
    DEPTH = 'depth'                 # the distance of each place, metres
    EMBED = 'embed'                 # a vector that is near those of similar images


class How(Word):
    """Who answered a frame, and why."""

    OFF_BOARD = 'off-board'         # the bridge
    LOCAL = 'local'                 # the robot, which was sure and sent nothing (selection)
    FALLBACK = 'fallback'           # the robot, as well as it can, because no answer came
    MEMORY = 'memory'               # the robot, with the last answer that came, because no newer one did


class LinkState(Word):
    """The state of the link, as either end sees it."""

    DISCONNECTED = 'disconnected'   # no peer is configured, or the end is stopped
    CONNECTING = 'connecting'       # a handshake is under way
    CONNECTED = 'connected'         # frames are sent and answered
    REFUSED = 'refused'             # the bridge refused the robot and said why
    LOST = 'lost'                   # the peer fell silent; a handshake goes on


class SendingState(Word):
    """What the path allows, as the edge finds out (docs/congestion.md)."""

    OPEN = 'open'                   # nothing is in the way
    CONGESTED = 'congested'         # a queue stands on the way: the rate is reduced
    RADIO_LOSS = 'radio loss'       # datagrams are lost without delay: the rate is kept
    BREAKER = 'breaker'             # no report comes: no frame is sent


class Quantisation(Word):
    """How values become bytes: by format, by a fitted transform code (KLT) with that many bits for each value, or by an entropy code."""

    FP16 = 'fp16'
    INT8 = 'int8'
    INT4 = 'int4'
    KLT2 = 'klt2'
    KLT1_5 = 'klt1.5'
    KLT1 = 'klt1'
    KLT0_5 = 'klt0.5'
    KLT0_25 = 'klt0.25'
    KLT0_125 = 'klt0.125'
    CODED = 'coded'                 # entropy-coded in equal steps of the tail's metric, as many bytes as it takes


ROWS = tuple(kind for kind in Quantisation if kind != Quantisation.CODED)      # in which every token takes equally many bytes


class Fit(Word):
    """How a picture of any shape is brought to the size of a model's input."""

    CROP = 'crop'                   # scaled until it covers the input; what stands out is not seen
    PAD = 'pad'                     # scaled until all of it is within the input; the borders are filled with the mean colour
    SQUASH = 'squash'               # scaled to the input's height and width, each by itself


class RecoveryName(Word):
    """What was done about tokens that did not arrive."""

    NONE = 'none'                   # nothing was missing, or nothing was sent
    OMISSION = 'omission'           # they were left out of the sequence
    PALDN = 'paldn'                 # PALDN estimated them
    ZERO = 'zero'                   # they were set to zero
    MEAN = 'mean'                   # they were set to the mean of those received
    INTERPOLATION = 'interpolation'
    SURROGATE = 'surrogate'
    LINEAR = 'linear'
    SRCNN = 'srcnn'
    EDSR = 'edsr'
    TUNED_TAIL = 'tuned-tail'
    MEMORY = 'memory'               # the last known tokens of their places stood in; those never known were left out
