"""What an `EdgeRuntime` has counted."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.rate.statistics import LinkStatistics
from evitif.vocabulary import LinkState

NAN = math.nan


@dataclass(frozen=True)
class EdgeStatistics:
    """Counts since the start, and the state of the link."""

    state: LinkState = LinkState.DISCONNECTED
    reason: str = ''                  # why refused or lost
    device: str = ''                  # what the model runs on, as PyTorch names it
    session_id: int = 0
    frames_received: int = 0
    frames_replaced: int = 0          # a newer image came while this one waited
    frames_rate_limited: int = 0
    frames_failed: int = 0            # could not be preprocessed or computed
    frames_sent: int = 0
    frames_answered: int = 0
    frames_expired: int = 0           # sent, no answer by the deadline, or given the last one before
    frames_unsent: int = 0            # no session, or a stamp by which it cannot be joined
    frames_local: int = 0             # answered by the robot alone
    frames_remembered: int = 0        # expired or unsent, and given the last answer
    tokens_received: int = 0          # of the frames answered off-board: tokens that arrived, as the next two
    tokens_remembered: int = 0        # filled in from earlier frames
    tokens_estimated: int = 0         # estimated from the others, or left out
    link: LinkStatistics | None = None
    uplink: UplinkState = UplinkState()       # what the path allows, and how much of it is used
    quantisation: str = ''            # of the last frame, as the next two
    patch_copies: int = 0             # datagrams that each patch travels in; 0: no frame yet
    share_sent: float = NAN           # of the tokens
    stamps: str = ''                  # of `partition`: why the images' stamps cannot be relied on
    last_loss: str = ''               # why the link was lost last
    since_loss_s: float = NAN         # seconds since then
    ecn: str = ''                     # why nothing is marked ECT(1) any more
    path: str = ''                    # which datagrams the path does not take, if frames have to travel in smaller ones
