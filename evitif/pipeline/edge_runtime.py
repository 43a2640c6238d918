"""The robot's half at run time: image in, datagrams out, prediction back.

    submit() ─► latest-frame slot ─► worker thread: the strategy observes and encodes, send ─► UdpLoop
    on_prediction() ◄──────────────────────────────────── answers, expiries ◄────────── UdpLoop

Every image given to `submit` ends in exactly one count: replaced by a newer one in the slot, over the rate limit, failed,
answered at once by a robot that is sure, unsent (no session), answered, or expired. The robot may also answer unsent and expired
ones alone, or say of unsent, overdue and expired ones what the last answer was (`answer_memory.py`); overdue ones then count as expired.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from evitif.heads.chosen import unpacked
from evitif.heads.results import Result, top_classes
from evitif.pipeline.answer_memory import AnswerMemory
from evitif.pipeline.arriving_maps import ArrivingMaps, PlaceAnswer, SeenFrame
from evitif.pipeline.edge_statistics import EdgeStatistics
from evitif.pipeline.ends import edge_links
from evitif.pipeline.prediction import NAN, Prediction, StageTimes
from evitif.pipeline.runtime import Log, Runtime, log_to_python
from evitif.pipeline.shape_check import ShapeCheck
from evitif.pipeline.stamp_check import StampCheck
from evitif.pipeline.strategies import edge_strategy
from evitif.pipeline.strategy import EdgeStrategy, Encoded, Observation
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.events import (
    AnswerArrived,
    Connected,
    DatagramSize,
    FrameExpired,
    FrameOverdue,
    LinkLost,
    MapArrived,
    MarksDropped,
    Refused,
)
from evitif.protocol.frames.packetiser import SOURCE_FRAME_RESERVE
from evitif.protocol.rate.token_bucket import TokenBucket
from evitif.protocol.sealing.keys import require_choice
from evitif.protocol.wire.answer import Answer
from evitif.settings import DEFAULT_TOP_K, EdgeSettings
from evitif.transport.addresses import format_address
from evitif.vocabulary import How, LinkState, RecoveryName

HINT_AFTER_S = 5.0      # without a reply from the bridge
NAME_ALWAYS_FITS = SOURCE_FRAME_RESERVE // 4       # characters, of at most four bytes


@dataclass(eq=False)
class _Frame:
    """An image on its way to its prediction."""

    pixels: np.ndarray
    capture_stamp_ns: int
    source_frame: str
    context: object
    submitted: float                  # seconds, monotonic
    stamped: bool                     # other devices' frames of it can be found by its stamp
    frame_id: int = 0
    observation: Observation | None = None
    sent: np.ndarray | None = None    # bool [tokens]
    packetise: float = NAN            # seconds
    given_up: bool = False            # it was given the last answer: its own, if it still comes, is not published

    def __str__(self) -> str:
        return f'frame of stamp {self.capture_stamp_ns / 1e9:.3f} s'


class EdgeRuntime(Runtime[EdgeStrategy, _Frame]):
    """The edge's pipeline with its threads and its socket.

    It calls `on_prediction(prediction)`, `on_map(answer)` and `on_event(event)` from its threads; they should return soon. `log` takes a
    level (logging.INFO, …) and a sentence. The constructor reads the key and loads the model: raises KeyFileError, ModelError,
    ArtifactError or ValueError, naming what is wrong.
    """

    def __init__(self, config: EdgeSettings, *, on_prediction: Callable[[Prediction], None],
                 on_event: Callable[[object], None] = lambda event: None, log: Log = log_to_python,
                 on_map: Callable[[PlaceAnswer], None] = lambda answer: None):
        require_choice(config.key_file, config.unsealed)
        strategy = edge_strategy(config)
        parameters = strategy.parameters
        self._connection, hosts = edge_links(config, parameters)
        super().__init__(config, strategy, self._connection, on_event=on_event, log=log, remotes=hosts)
        self.config: EdgeSettings = config
        self._on_prediction, self._on_map = on_prediction, on_map
        self._maps = ArrivingMaps(self.heads)
        self._last: Encoded | None = None     # that was sent
        self._shape = ShapeCheck(parameters.image_size)
        self._stamps = StampCheck() if strategy.joins_by_stamp else None
        self._next_frame = 0
        self._memory = AnswerMemory(config.answer_memory, parameters.classes)
        self._reason = self._objection = ''   # why the link is down; why stamps cannot be relied on
        self._last_loss = '', NAN             # why the link was lost last, and when
        self._ecn = ''                        # why nothing is marked
        self._path = ''                       # what its datagrams' size suffers from
        self._refused = False                 # the last that the bridge said
        self._bridge = ''                     # where it is
        self._asking_since = math.inf         # when the link was begun or lost
        # Guarded by the lock:
        self._pending: dict[int, _Frame] = {}
        # One and a half frames deep, so that a camera's jitter does not halve the rate.
        self._rate = TokenBucket(config.max_rate, 1.5) if config.max_rate > 0 else None

    def start(self) -> None:
        """Connect and begin. Looks up the bridge's name again and again; raises TransportError (an OSError) if it can be no host's."""
        self._prepare()
        self._strategy.warm_up()
        self._run('evitif-edge')
        self._asking_since = time.monotonic()
        self._loop.call(self._connection.connect)

    def stop(self) -> None:
        """Say goodbye to the bridge and end the threads."""
        self._add(frames_unsent=sum(frame.observation is None for frame in self._slots.close()))
        self._join_worker()
        self._end()

    def submit(self, image: np.ndarray, capture_stamp_ns: int, source_frame: str = '', context: object = None) -> None:
        """Take an image uint8 [H, W, 3] RGB. Never blocks: the image replaces one that waits for the worker."""
        now = time.monotonic()
        self._shape.check(*image.shape[:2], log=self._log)
        frame = _Frame(image, capture_stamp_ns, source_frame, context, now, self._check_stamp(capture_stamp_ns, now))
        with self._lock:
            self._counts['frames_received'] += 1
            if self._rate is not None and not self._rate.take(now):
                self._counts['frames_rate_limited'] += 1
                return
        if self._slots.put('image', frame) is not None:
            self._add(frames_replaced=1)

    def read_heads(self, names: Collection[str]) -> None:
        """Somebody reads what these of `heads` say, and not what the others say: those the bridge need neither compute nor send."""
        unread = sum(1 << index for index, head in enumerate(self.heads) if head.name not in names)
        self._connection.unread = unread

    def _heads_of(self, answer: Answer) -> dict[str, Result]:
        """What the heads say, by name."""
        said = {}
        for index, content in answer.heads.items():
            head = self.heads[index]
            try:
                said[head.name] = unpacked(head, content)
            except ValueError as error:
                self._repeated(logging.ERROR, f'what the head {head.name} says cannot be read: {error}', ('head', head.name))
        return said

    def _check_stamp(self, capture_stamp_ns: int, now: float) -> bool:
        """Whether other devices' frames of the image can be found by its stamp; a change is logged."""
        if self._stamps is None:
            return True
        objection = self._stamps.objection(capture_stamp_ns, now)
        before, self._objection = self._objection, objection
        if bool(objection) != bool(before):
            said = (logging.ERROR, objection) if objection else (logging.INFO, 'the images have stamps of their own again')
            self._repeated(*said, ('stamps', bool(objection)))
        return not objection

    def statistics(self) -> EdgeStatistics:
        """A snapshot of the counts and of the link."""
        connection, parameters, last = self._connection, self._strategy.parameters, self._last
        link, state, session_id = self._loop.call(lambda now: (connection.statistics, connection.state, connection.session_id))
        sent: dict[str, Any] = {'quantisation': parameters.quantisation} if last is None else {
            'quantisation': last.quantisation, 'patch_copies': last.patch_copies,
            'share_sent': 1.0 if last.chosen is None else len(last.chosen) / parameters.tokens}
        reason = self._reason
        if state in (LinkState.CONNECTING, LinkState.LOST):
            if self._refused:       # without a seal, so that the connection only takes it as a hint
                state = LinkState.REFUSED
            else:
                reason = self._loop.remote_problem or '; '.join(filter(None, (reason, self._silence())))
        with self._lock:
            return EdgeStatistics(state=state, reason=reason, session_id=session_id or 0,
                                  device=str(self.placement.device), link=link, uplink=connection.uplink, stamps=self._objection,
                                  path=self._path, ecn=self._ecn, last_loss=self._last_loss[0],
                                  since_loss_s=time.monotonic() - self._last_loss[1],
                                  **sent, **cast(dict[str, Any], self._counts))

    def _silence(self) -> str:
        """What may be the reason if the bridge has said nothing for a while."""
        if (waited := time.monotonic() - self._asking_since) < HINT_AFTER_S:
            return ''
        return (f'no reply for {waited:.0f} s: the bridge may be off or out of reach, or be silent to strangers and have another key for '
                'this robot, or none')

    # The worker's thread.

    def _work(self) -> None:
        while (frame := self._slots.take()) is not None:
            try:
                if frame.observation is None:
                    self._take_up(frame)
                else:
                    self._answer_alone(frame, frame.observation)
            except Exception as error:  # an image or a device that fails must not end the stream
                self._fail(frame, error)

    def _fail(self, frame: _Frame, error: Exception) -> None:
        self._add(frames_failed=1)
        self._repeated(logging.ERROR, f'{frame} failed: {error}', type(error))

    def _take_up(self, frame: _Frame) -> None:
        """Look at an image, and send it or answer it."""
        uplink = self._connection.uplink
        observation = frame.observation = self._strategy.observe(frame.pixels, uplink)
        frame.frame_id = self._next_frame = (self._next_frame + 1) % 2**32
        if observation.probabilities is not None:
            self._publish_own(frame, observation.probabilities, How.LOCAL)
            return
        observation.frame_id = frame.frame_id
        try:
            sent = frame.stamped and self._encode_and_send(frame, observation, uplink)
            if frame.stamped and not sent and (now := self._connection.uplink).session_id not in (0, uplink.session_id):
                sent = self._encode_and_send(frame, observation, now)       # it referred to frames that another bridge had
            if frame.stamped and not self._strategy.keeps_content:
                observation.content = None      # else the tokens of frames that wait for their answers would fill the memory
        except Exception as error:  # the observation is enough for an answer of the robot's own
            self._fail(frame, error)
            sent = False
        else:
            self._add(**{'frames_sent' if sent else 'frames_unsent': 1})
        if sent:
            return
        with self._lock:
            self._pending.pop(frame.frame_id, None)
        if self._strategy.answers_alone:
            self._answer_alone(frame, observation)
        else:
            self._answer_from_memory(frame)

    def _encode_and_send(self, frame: _Frame, observation: Observation, uplink: UplinkState) -> bool:
        """Encode a frame and send it. False: there is no session."""
        began = time.monotonic()
        encoded = self._last = self._strategy.encode(observation, uplink)
        if encoded.remark:
            self._repeated(logging.INFO, encoded.remark, 'quantisation')
        tokens = encoded.frame(frame.frame_id, frame.capture_stamp_ns, self._name_on_the_wire(frame.source_frame))
        frame.sent = np.zeros(self._strategy.parameters.tokens, bool)
        frame.sent[slice(None) if encoded.chosen is None else encoded.chosen] = True
        with self._lock:
            self._pending[frame.frame_id] = frame
        if self._maps.expected:
            self._maps.sent(SeenFrame(frame.frame_id, frame.capture_stamp_ns, frame.source_frame, frame.pixels, frame.context,
                                      observation.crop))
        sent = self._loop.call(lambda now: self._connection.send_frame(tokens, now, uplink.session_id))
        frame.packetise = time.monotonic() - began
        return sent

    def _name_on_the_wire(self, name: str) -> str:
        """The source frame's name, cut to the room in a datagram; on the robot it stays whole."""
        if len(name) <= NAME_ALWAYS_FITS:
            return name
        encoded, longest = name.encode(), self._connection.longest_name
        if len(encoded) <= longest:
            return name
        self._repeated(logging.WARNING, f"the images' frame_id has {len(encoded)} bytes, of which the first {longest} go to the bridge: "
                                        f'{name[:40]}…; expected at most {longest}', 'frame_id')
        return encoded[:longest].decode(errors='ignore')

    def _answer_alone(self, frame: _Frame, observation: Observation) -> None:
        began = time.monotonic()
        probabilities = self._strategy.answer_alone(observation)
        self._publish_own(frame, probabilities, How.FALLBACK, tail=time.monotonic() - began)

    def _publish_own(self, frame: _Frame, probabilities: np.ndarray, how: How, **stages: float) -> None:
        """Publish an answer in which the bridge had no part."""
        self._add(frames_local=1)
        self._publish(frame, time.monotonic(), *top_classes(probabilities, self.config.top_k or DEFAULT_TOP_K), how, stages)

    # In the socket's thread, or that of a caller of `UdpLoop.call`.

    def _handle(self, event: object) -> None:
        if isinstance(event, AnswerArrived):
            self._answered(event)
        elif isinstance(event, MapArrived):
            self._take_map(event)
        elif isinstance(event, FrameOverdue):
            with self._lock:
                frame = self._pending.get(event.frame_id)       # it stays: its answer would still say what the bridge has
            if frame is not None and not self._strategy.answers_alone:
                frame.given_up = self._answer_from_memory(frame)
                self._add(frames_expired=int(frame.given_up))
        elif isinstance(event, FrameExpired):
            with self._lock:
                frame = self._pending.pop(event.frame_id, None)
            if frame is None or not frame.given_up:
                self._add(frames_expired=1)
                self._answer_expired(frame)
        elif isinstance(event, Connected):
            self._reason, self._refused = '', False
            self._bridge = ' and '.join(map(format_address, self._connection.addresses))
            self._log(logging.INFO, f'connected to {event.bridge} at {self._bridge}, {"unsealed" if self.config.unsealed else "sealed"}')
        elif isinstance(event, Refused):
            self._reason, self._refused = event.reason, True
            self._log(logging.ERROR, f'the bridge refused this robot: {event.reason}')
        elif isinstance(event, LinkLost):
            # A bridge that says goodbye, or has forgotten the session, ends it at once.
            self._refused, self._asking_since = False, time.monotonic()
            self._reason = (f'nothing heard from the bridge for {event.silent_s:.1f} s'
                            if event.silent_s >= self.config.link_timeout else 'the bridge ended the session')
            self._last_loss = self._reason, time.monotonic()
            self._log(logging.WARNING, f'link to {self._bridge} lost: {self._reason}')
        elif isinstance(event, DatagramSize):
            level, said = said_of_size(event)
            self._path = '' if event.size > event.before and event.size == self.config.max_datagram_bytes else said
            self._log(level, said)
        elif isinstance(event, MarksDropped):
            self._ecn = 'the path drops datagrams marked ECT(1): they are no longer marked' if event.dropped else ''
            self._log(logging.WARNING if event.dropped else logging.INFO, self._ecn or 'the path takes datagrams marked ECT(1) again')
        self._on_event(event)

    def _answered(self, event: AnswerArrived) -> None:
        now = time.monotonic()
        answer = event.answer
        with self._lock:
            frame = self._pending.pop(answer.frame_id, None)
        if frame is None or frame.observation is None:
            return
        self._strategy.acknowledge(self._connection.session_id or 0, answer.frame_id, answer.received)
        class_ids, scores = answer.class_ids, answer.scores
        try:
            class_ids, scores = self._strategy.refine(frame.observation, class_ids, scores)
        except Exception as error:  # the bridge's answer is one all the same
            self._repeated(logging.ERROR, f'the answer to the {frame} is published as the bridge gave it: {error}', type(error))
        self._memory.keep(frame.capture_stamp_ns, class_ids, scores, answer)
        if frame.given_up:          # each image is answered once
            return
        self._add(frames_answered=1, **{f'tokens_{fate}': count for fate, count in answer.fates(event.sent.tokens).items()})
        k = self.config.top_k
        self._publish(
            frame, now, class_ids[:k], scores[:k], How.OFF_BOARD,
            {'uplink': event.uplink_s, 'wait': answer.wait_s, 'recovery': answer.recovery_s, 'tail': answer.tail_s,
             'downlink': event.downlink_s},
            recovery=answer.recovery, packets_sent=event.sent.packets, packets_received=answer.packets_received,
            tokens_sent=event.sent.tokens, tokens_received=answer.tokens_received, uplink_bytes=event.sent.bytes,
            downlink_bytes=event.copies_bytes, packet_error_rate=answer.packet_error_rate, sent=frame.sent, received=answer.received,
            remembered=answer.remembered, memory_age=answer.memory_age_s, heads=self._heads_of(answer))

    def _take_map(self, event: MapArrived) -> None:
        try:
            answers = self._maps.take(event.part)
        except ValueError as error:
            self._repeated(logging.ERROR, f'what a head says of frame {event.part.frame_id} cannot be read: {error}', 'map')
            return
        for answer in answers:
            self._on_map(answer)

    def _answer_expired(self, frame: _Frame | None) -> None:
        if frame is not None and self._strategy.answers_alone:
            self._slots.put('expired', frame)
        elif frame is not None:
            self._answer_from_memory(frame)

    def _answer_from_memory(self, frame: _Frame) -> bool:
        """Say what the last answer was, and how old it is. False: there is none near enough."""
        remembered = self._memory.recall(frame.capture_stamp_ns)
        if remembered is None:
            return False
        self._add(frames_remembered=1)
        self._publish(frame, time.monotonic(), remembered.class_ids, remembered.scores, How.MEMORY, {}, recovery=RecoveryName.MEMORY,
                      memory_age=remembered.age_s)
        return True

    def _publish(self, frame: _Frame, now: float, class_ids: tuple[int, ...], scores: tuple[float, ...], how: How,
                 stages: dict[str, float], **link: Any) -> None:
        """:param link: the fields of Prediction that say what was sent and received"""
        parameters, labels, observation = self._strategy.parameters, self._strategy.labels, frame.observation
        assert observation is not None
        self._on_prediction(Prediction(
            frame_id=frame.frame_id, capture_stamp_ns=frame.capture_stamp_ns, source_frame=frame.source_frame,
            class_ids=tuple(index if index < len(labels) else -1 for index in class_ids), scores=scores,
            labels=tuple(labels[index] if index < len(labels) else 'other' for index in class_ids),
            strategy=self._strategy.name, how=how, prefix_tokens=parameters.prefix_tokens, grid=parameters.grid,
            image=frame.pixels, context=frame.context, crop=observation.crop, devices=self._strategy.devices,
            stages=StageTimes(preprocess=observation.preprocess, head=observation.head, packetise=frame.packetise,
                              total=now - frame.submitted, **stages),
            **link))


def said_of_size(event: DatagramSize) -> tuple[int, str]:
    """A level and a sentence for the log."""
    if event.size > event.before:
        return logging.INFO, f'the path takes datagrams of {event.size} bytes now'
    swallowed = f'the path swallows datagrams of {event.before} bytes and says nothing'
    if event.size < event.before:
        return logging.WARNING, f'{swallowed}: frames now travel in datagrams of {event.size} bytes'
    return logging.ERROR, f'{swallowed}, and a row of tokens fits into no smaller ones: expected a path that takes them'
