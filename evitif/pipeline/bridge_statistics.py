"""What the off-board half counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from evitif.protocol.rate.statistics import LinkStatistics


@dataclass(frozen=True)
class BridgeStatistics:
    """Counts since the start over all robots, and each robot's link."""

    device: str = ''
    recovery: str = ''
    frames_ready: int = 0
    frames_answered: int = 0
    frames_replaced: int = 0          # a newer frame of the same robot came before the tail was free
    frames_failed: int = 0
    batches: int = 0                  # runs of the tail over one frame or several
    dropped: dict[str, int] = field(default_factory=dict)           # datagrams of all robots and of none, by reason
    heads_left_out: dict[str, int] = field(default_factory=dict)    # results that did not fit on the way back, by 'HEAD of ROBOT'
    # Of devices: joint frames complete, partial; frames late, duplicate, refused.
    joined: dict[str, int] = field(default_factory=dict)
    links: dict[str, LinkStatistics] = field(default_factory=dict)  # by robot
