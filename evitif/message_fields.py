"""What the fields of the messages hold, as plain values, whoever makes the messages: a node, or a recording that is written without ROS.

The messages are evitif_msgs/Prediction and evitif_msgs/LinkStats; their headers are left to the caller. This knows none of the library's
packages, so a node that is about to start imports no PyTorch by it.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

import numpy as np

from evitif.vocabulary import LinkState

_SAME = ('strategy', 'how', 'recovery', 'packets_sent', 'packets_received', 'tokens_sent', 'tokens_received', 'uplink_bytes',
         'downlink_bytes', 'packet_error_rate', 'memory_age')     # fields of a Prediction that the message has by the same name


class Patch(IntEnum):
    """What became of a patch: the constants PATCH_… of evitif_msgs/Prediction."""

    NOT_SENT = 0
    MISSING = 1
    RECEIVED = 2
    REMEMBERED = 3


def prediction_fields(prediction: Any, robot: str) -> dict[str, Any]:
    """Of evitif_msgs/Prediction, from an `evitif.pipeline.Prediction`."""
    fields = {'robot': robot, 'sequence': prediction.frame_id, 'labels': list(prediction.labels),
              'class_ids': list(prediction.class_ids), 'scores': list(prediction.scores),
              **{name: getattr(prediction, name) for name in _SAME},
              **{f'time_{stage}': seconds for stage, seconds in vars(prediction.stages).items()}}
    if prediction.devices:
        answered = [False] * len(prediction.devices) if prediction.received is None else prediction.received.tolist()
        return fields | {'devices': list(prediction.devices), 'devices_answered': answered}
    fields['patch_rows'], fields['patch_columns'] = prediction.grid
    if prediction.received is not None:
        patches = np.full(prediction.received.shape, Patch.MISSING, np.uint8)
        if prediction.sent is not None:
            patches[~prediction.sent] = Patch.NOT_SENT
        if prediction.remembered is not None:
            patches[prediction.remembered] = Patch.REMEMBERED
        patches[prediction.received] = Patch.RECEIVED
        fields['patches'] = patches[prediction.prefix_tokens:].tolist()
    return fields


def edge_link_fields(statistics: Any, robot: str, peer: str) -> dict[str, Any]:
    """Of evitif_msgs/LinkStats, from an `evitif.pipeline.EdgeStatistics`: what comes in at the edge is the downlink."""
    uplink = statistics.uplink
    fields = {'robot': robot, 'state': statistics.state, 'reason': statistics.reason, 'peer': peer, 'session': statistics.session_id,
              'device': statistics.device, 'connected': statistics.state == LinkState.CONNECTED, 'sending_state': uplink.state,
              'queueing_delay': uplink.queueing_delay_s, 'allowed_rate': uplink.allowed_bit_s / 1e6, 'used_rate': uplink.used_bit_s / 1e6,
              'quantisation': statistics.quantisation, 'patch_copies': statistics.patch_copies, 'share_sent': statistics.share_sent,
              **{name: count for name, count in vars(statistics).items() if name.startswith(('frames_', 'tokens_'))},
              **direction_fields(statistics.link, incoming='downlink', outgoing='uplink')}
    if statistics.link is not None:
        fields['frames_cut'] = statistics.link.frames.get('cut', 0)
    decided = statistics.frames_answered + statistics.frames_expired
    return fields | {'answered_ratio': statistics.frames_answered / decided if decided else math.nan}


def direction_fields(link: Any, *, incoming: str, outgoing: str) -> dict[str, Any]:
    """The fields of LinkStats that either end has, each from its own side, from `LinkStatistics` of the protocol or None."""
    if link is None:
        return {'round_trip': math.nan, **{f'{way}_{figure}': math.nan for way in (incoming, outgoing)
                                           for figure in ('packet_error_rate', 'mean_burst')}}
    return {f'{incoming}_packet_error_rate': link.packet_error_rate, f'{incoming}_mean_burst': link.mean_burst,
            f'{outgoing}_packet_error_rate': link.remote_packet_error_rate, f'{outgoing}_mean_burst': link.remote_mean_burst,
            'round_trip': link.round_trip_s, 'drop_kinds': list(link.dropped), 'drop_counts': list(link.dropped.values()),
            **{name: getattr(link, name) for name in ('datagrams_sent', 'datagrams_received', 'bytes_sent', 'bytes_received')}}
