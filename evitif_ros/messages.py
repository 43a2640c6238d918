"""The pipeline's results as messages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from evitif.message_fields import direction_fields, edge_link_fields, prediction_fields
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

if TYPE_CHECKING:
    from evitif.pipeline import EdgeStatistics
    from evitif.pipeline import Prediction as Answered
    from evitif.protocol.rate.statistics import LinkStatistics

MOST_LABELS = 65_535    # a VisionClass has a 16-bit id, whose highest value means unlabelled


def prediction_message(prediction: Answered, header: Header, robot: str) -> Prediction:
    """An evitif.pipeline.Prediction as a message; `header` is the source image's."""
    return Prediction(header=header, **prediction_fields(prediction, robot))


def classification_message(prediction: Answered, header: Header) -> Any:
    """The same as a vision_msgs/Classification; None where vision_msgs is not installed.

    Its class_id is the class's number, since two classes may have one label; `label_info_message` has the labels.
    """
    if Classification is None:
        return None
    return Classification(header=header, results=[
        ObjectHypothesis(class_id=str(class_id), score=score)
        for class_id, score in zip(prediction.class_ids, prediction.scores, strict=True)])


def source_header(prediction: Answered) -> Header:
    """The source image's header, from what travelled with the frame."""
    seconds, nanoseconds = divmod(prediction.capture_stamp_ns, 1_000_000_000)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=prediction.source_frame)


def labels_message(labels: tuple[str, ...], stamp: Time) -> ClassLabels:
    """The name of each class."""
    return ClassLabels(header=Header(stamp=stamp), labels=list(labels))


def label_info_message(labels: tuple[str, ...], stamp: Time) -> Any:
    """The name of each class, of at most MOST_LABELS, as a vision_msgs/LabelInfo."""
    return LabelInfo(header=Header(stamp=stamp),
                     class_map=[VisionClass(class_id=index, class_name=label) for index, label in enumerate(labels)])


def vision_info_message(method: str, location: str, stamp: Time) -> Any:
    """What answers, and the topic with the classes' names, as a vision_msgs/VisionInfo."""
    return VisionInfo(header=Header(stamp=stamp), method=method, database_location=location)


def edge_link_message(statistics: EdgeStatistics, robot: str, peer: str, stamp: Time) -> LinkStats:
    """The edge's statistics as a message: what comes in at the edge is the downlink."""
    return LinkStats(header=Header(stamp=stamp), **edge_link_fields(statistics, robot, peer))


def bridge_link_message(link: LinkStatistics | None, connected: bool, robot: str, peer: str, session_id: int, reason: str, device: str,
                        frames_answered: int, stamp: Time) -> LinkStats:
    """One robot's link as the bridge sees it: what comes in is the uplink."""
    message = LinkStats(header=Header(stamp=stamp), robot=robot, reason=reason, peer=peer, session=session_id,
                        device=device, connected=connected, answered_ratio=math.nan,
                        state=LinkState.CONNECTED if connected else LinkState.LOST, frames_answered=frames_answered,
                        allowed_rate=math.nan, used_rate=math.nan, queueing_delay=math.nan, share_sent=math.nan,
                        **direction_fields(link, incoming='uplink', outgoing='downlink'))
    if link is not None:
        message.tokens_received, message.tokens_remembered, message.tokens_estimated = (
            link.tokens.get(what, 0) for what in ('received', 'remembered', 'estimated'))
        message.frames_replaced, message.frames_failed = (link.frames.get(fate, 0) for fate in ('replaced', 'failed'))
        message.frames_received = sum(link.frames.values()) - message.frames_replaced - message.frames_failed
    return message
