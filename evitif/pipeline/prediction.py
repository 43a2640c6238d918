"""The answer to a frame, and how long each stage took."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from evitif.heads.results import Result
from evitif.vocabulary import How, RecoveryName, Strategy

NAN = math.nan


@dataclass(frozen=True)
class StageTimes:
    """Seconds of each stage of one frame; NaN if it did not happen or is unknown.

    `uplink` and `downlink` come from the clock offset that the edge estimates (RFC 5905, which assumes that both ways
    take equally long at their fastest); `wait` is from the first packet's arrival until the tail's side takes the
    frame; `total` is from the image's arrival at the edge until the answer's, on the edge's clock.
    """

    preprocess: float = NAN
    head: float = NAN
    packetise: float = NAN  # quantise, packetise and hand to the socket
    uplink: float = NAN
    wait: float = NAN
    recovery: float = NAN   # dequantise and recover
    tail: float = NAN
    downlink: float = NAN
    total: float = NAN


@dataclass(frozen=True)
class Prediction:
    """The answer to one frame, as the edge or the bridge publishes it.

    >>> def show(prediction):
    ...     print(prediction.labels[0], prediction.scores[0], prediction.how, prediction.stages.total)
    >>> with evitif.run_edge(show, bridge_port=7600, key_file='rover.key') as edge:
    ...     edge.submit(image, time.time_ns())
    """

    frame_id: int
    capture_stamp_ns: int
    source_frame: str
    class_ids: tuple[int, ...]       # top-k, most likely first; -1: none of the classes that this device knows
    labels: tuple[str, ...]
    scores: tuple[float, ...]        # probabilities
    strategy: Strategy
    how: How
    prefix_tokens: int
    grid: tuple[int, int]            # patches (rows, columns)
    recovery: RecoveryName = RecoveryName.NONE
    packets_sent: int = 0
    packets_received: int = 0
    tokens_sent: int = 0
    tokens_received: int = 0
    uplink_bytes: int = 0            # UDP payload sent (edge) or received (bridge) for this frame
    downlink_bytes: int = 0          # UDP payload of the answer's copies so far
    packet_error_rate: float = NAN   # of the uplink, 0..1, NaN when unknown
    sent: np.ndarray | None = None   # bool [tokens]: what was sent; None if nothing was, or the bridge does not know
    received: np.ndarray | None = None      # bool [tokens]: what arrived; None if nothing was sent
    remembered: np.ndarray | None = None    # bool [tokens]: what did not arrive and was remembered from earlier frames; None: nothing
    memory_age: float = NAN          # seconds: of what was remembered, on average, or of the answer (How.MEMORY); NaN: nothing was
    heads: dict[str, Result] = field(default_factory=dict)      # what other heads say, by name; those that somebody reads
    devices: tuple[str, ...] = ()    # of `partition`: the names of those whose features the tokens are
    image: np.ndarray | None = None  # as it was given to EdgeRuntime.submit, as the next; None on the bridge
    context: object = None
    crop: tuple[float, float, float, float] | None = None   # (left, top, width, height) of the image, what the model saw
    stages: StageTimes = field(default_factory=StageTimes)
