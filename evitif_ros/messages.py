"""The pipeline's results as messages."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from evitif.vocabulary import LinkState
from evitif_msgs.msg import ClassLabels, LinkStats, Prediction

try:  # a distribution has it; PyPI's wheels have not
    from vision_msgs.msg import Classification, ObjectHypothesis, VisionInfo
except ImportError:
    Classification = ObjectHypothesis = VisionInfo = None
try:  # newer than vision_msgs 4.0.0
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:
    LabelInfo = VisionClass = None

MOST_LABELS = 65_535    # a VisionClass has its id in 16 bits, of which the highest means unlabelled


def prediction_message(prediction, header: Header, robot: str) -> Prediction:
    """An evitif.pipeline.Prediction as a message; `header` is the source image's."""
    message = Prediction(header=header, robot=robot, sequence=prediction.frame_id, labels=list(prediction.labels),
                         class_ids=list(prediction.class_ids), scores=list(prediction.scores))
    for name in ('strategy', 'how', 'recovery', 'packets_sent', 'packets_received', 'tokens_sent', 'tokens_received',
                 'uplink_bytes', 'downlink_bytes', 'packet_error_rate'):
        setattr(message, name, getattr(prediction, name))
    _fill_parts(message, prediction)
    for stage in fields(prediction.stages):
        setattr(message, f'time_{stage.name}', getattr(prediction.stages, stage.name))
    return message


def _fill_parts(message: Prediction, prediction) -> None:
    """What became of the patches, or of the devices."""
    if prediction.devices:
        message.devices = list(prediction.devices)
        message.devices_answered = [False] * len(prediction.devices) if prediction.received is None else prediction.received.tolist()
        return
    message.patch_rows, message.patch_columns = prediction.grid
    if prediction.received is not None:
        states = np.full(prediction.received.shape, Prediction.PATCH_MISSING, np.uint8)
        if prediction.sent is not None:
            states[~prediction.sent] = Prediction.PATCH_NOT_SENT
        states[prediction.received] = Prediction.PATCH_RECEIVED
        message.patches = states[prediction.prefix_tokens:].tolist()


def classification_message(prediction, header: Header):
    """The same as a vision_msgs/Classification; None where vision_msgs is not installed.

    Its class_id is the class's number, since two classes may have one label; `label_info_message` has the labels.
    """
    if Classification is None:
        return None
    return Classification(header=header, results=[
        ObjectHypothesis(class_id=str(class_id), score=score)
        for class_id, score in zip(prediction.class_ids, prediction.scores, strict=True)])


def source_header(prediction) -> Header:
    """The source image's header, from what travelled with the frame."""
    seconds, nanoseconds = divmod(prediction.capture_stamp_ns, 1_000_000_000)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=prediction.source_frame)


def labels_message(labels: tuple[str, ...], stamp: Time) -> ClassLabels:
    return ClassLabels(header=Header(stamp=stamp), labels=list(labels))


def label_info_message(labels: tuple[str, ...], stamp: Time):
    """The name of each class, of at most MOST_LABELS, as a vision_msgs/LabelInfo."""
    return LabelInfo(header=Header(stamp=stamp),
                     class_map=[VisionClass(class_id=index, class_name=label) for index, label in enumerate(labels)])


def vision_info_message(method: str, location: str, stamp: Time):
    """What answers, and the topic with the classes' names, as a vision_msgs/VisionInfo."""
    return VisionInfo(header=Header(stamp=stamp), method=method, database_location=location)


def edge_link_message(statistics, robot: str, peer: str, stamp: Time) -> LinkStats:
    """An evitif.pipeline.EdgeStatistics as a message: what comes in at the edge is the downlink."""
    message = LinkStats(header=Header(stamp=stamp), robot=robot, state=statistics.state, reason=statistics.reason, peer=peer,
                        session=statistics.session_id, device=statistics.device,
                        connected=statistics.state == LinkState.CONNECTED, round_trip=math.nan)
    _fill_directions(message, statistics.link, incoming='downlink', outgoing='uplink')
    for name in ('frames_received', 'frames_replaced', 'frames_rate_limited', 'frames_sent', 'frames_answered',
                 'frames_expired', 'frames_unsent', 'frames_local', 'frames_failed'):
        setattr(message, name, getattr(statistics, name))
    _fill_sending(message, statistics)
    decided = statistics.frames_answered + statistics.frames_expired
    message.answered_ratio = statistics.frames_answered / decided if decided else math.nan
    return message


def bridge_link_message(link, connected: bool, robot: str, peer: str, session_id: int, reason: str, device: str,
                        frames_answered: int, stamp: Time) -> LinkStats:
    """One robot's evitif.protocol LinkStatistics, seen by the bridge: what comes in is the uplink."""
    message = LinkStats(header=Header(stamp=stamp), robot=robot, reason=reason, peer=peer, session=session_id,
                        device=device, connected=connected, round_trip=math.nan, answered_ratio=math.nan,
                        state=LinkState.CONNECTED if connected else LinkState.LOST,
                        frames_answered=frames_answered,
                        allowed_rate=math.nan, used_rate=math.nan, queueing_delay=math.nan, share_sent=math.nan)
    _fill_directions(message, link, incoming='uplink', outgoing='downlink')
    if link is not None:
        message.frames_replaced, message.frames_failed = (link.frames.get(fate, 0) for fate in ('replaced', 'failed'))
        message.frames_received = sum(link.frames.values()) - message.frames_replaced - message.frames_failed
    return message


def _fill_sending(message: LinkStats, statistics) -> None:
    """What the edge found out about the path, and how it sends."""
    uplink = statistics.uplink
    message.sending_state, message.queueing_delay = uplink.state, uplink.queueing_delay_s
    message.allowed_rate, message.used_rate = uplink.allowed_bit_s / 1e6, uplink.used_bit_s / 1e6
    message.quantisation, message.patch_copies = statistics.quantisation, statistics.patch_copies
    message.share_sent = statistics.share_sent
    if statistics.link is not None:
        message.frames_cut = statistics.link.frames.get('cut', 0)


def _fill_directions(message: LinkStats, link, *, incoming: str, outgoing: str) -> None:
    for direction in (incoming, outgoing):
        setattr(message, f'{direction}_packet_error_rate', math.nan)
        setattr(message, f'{direction}_mean_burst', math.nan)
    if link is None:
        return
    setattr(message, f'{incoming}_packet_error_rate', link.packet_error_rate)
    setattr(message, f'{incoming}_mean_burst', link.mean_burst)
    setattr(message, f'{outgoing}_packet_error_rate', link.remote_packet_error_rate)
    setattr(message, f'{outgoing}_mean_burst', link.remote_mean_burst)
    message.round_trip = link.round_trip_s
    for name in ('datagrams_sent', 'datagrams_received', 'bytes_sent', 'bytes_received'):
        setattr(message, name, getattr(link, name))
    message.drop_kinds, message.drop_counts = list(link.dropped), list(link.dropped.values())
