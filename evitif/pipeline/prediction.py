"""What a frame was answered with, and how long each stage took."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

import numpy as np

from evitif.vocabulary import How, RecoveryName, Strategy

NAN = math.nan


@dataclass(frozen=True)
class StageTimes:
    """Seconds of each stage of one frame; NaN where a stage did not happen or cannot be known.

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

    def as_dict(self) -> dict[str, float]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


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
    context: object                  # what was given to EdgeRuntime.submit; None on the bridge
    class_ids: tuple[int, ...]       # top-k, most likely first; -1: none of the classes that this device knows
    labels: tuple[str, ...]
    scores: tuple[float, ...]        # probabilities
    strategy: Strategy
    how: How
    recovery: RecoveryName
    packets_sent: int
    packets_received: int
    tokens_sent: int
    tokens_received: int
    uplink_bytes: int                # UDP payload sent (edge) or received (bridge) for this frame
    downlink_bytes: int              # UDP payload of the answer's copies so far
    packet_error_rate: float         # of the uplink, 0..1, NaN when unknown
    sent: np.ndarray | None          # bool [tokens]: what was sent; None where nothing was, or the bridge does not know
    received: np.ndarray | None      # bool [tokens]: what arrived; None where nothing was sent
    prefix_tokens: int
    grid: tuple[int, int]            # patches (rows, columns)
    crop: tuple[float, float, float, float] | None  # (left, top, width, height) of the source image the model saw
    devices: tuple[str, ...]         # of `partition`: the names of those whose features the tokens are
    stages: StageTimes = field(default_factory=StageTimes)
