"""What a contestant is: a function of a clip and a link's trace to answers and bytes. Encoder, decoder and memory run through the clip.

A frame that leaves at its time reaches the other side, or does not, before the next one; so does what is said back. An answer that does
not come leaves the last one standing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.streams.clips import Clip
from benchmarks.streams.traces import Trace

DEADLINE_S = 0.2        # from frame to answer, on the robot
DELAY_S = 0.005         # one way
TAIL_S = 0.015          # what the bridge takes for an answer


@dataclass(frozen=True)
class Run:
    """Of each frame: the class that the robot was answered by the deadline, or NO_ANSWER; packets of the uplink, and bytes of them
    with IP and UDP headers; and whether the answer is an earlier frame's, given again. All [n]."""

    answers: np.ndarray
    bytes: np.ndarray
    packets: np.ndarray
    repeated: np.ndarray | None = None      # None: none is


@dataclass(frozen=True)
class Contestant:
    """
    :ivar family: who it is in the tables, such as 'evitif, PALDN'
    :ivar variant: a kind of it, such as how often it sends a key frame
    :ivar setting: how much it spends; the settings of a variant are the points of a curve of cost over bytes
    :ivar run: what it makes of a clip over a trace
    """

    family: str
    variant: str
    setting: str
    run: Callable[[Clip, Trace], Run]

    @property
    def name(self) -> str:
        """All three."""
        return ' / '.join((self.family, self.variant, self.setting))
