"""The robot's half at run time: image in, datagrams out, prediction back.

    submit() ─► latest-frame slot ─► worker thread: the strategy sees and encodes, send ─► UdpLoop
    on_prediction() ◄──────────────────────────────────── answers, expiries ◄────────── UdpLoop

Every image that was given to `submit` ends in exactly one count: replaced by a newer one in the slot, over the rate
limit, failed, answered at once by a robot that is sure, unsent (no session), answered, or expired; unsent and expired ones
may in addition be answered by the robot alone.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evitif.model.device import Placement
from evitif.pipeline.cut_model import top_classes
from evitif.pipeline.prediction import NAN, Prediction, StageTimes
from evitif.pipeline.slot import LatestSlots
from evitif.pipeline.stamp_check import StampCheck
from evitif.pipeline.strategies import edge_strategy
from evitif.pipeline.strategy import Encoded, Observation
from evitif.pipeline.threads import choose_threads
from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.events import AnswerArrived, Connected, FrameExpired, LinkLost, Refused
from evitif.protocol.frames.packetiser import SOURCE_FRAME_RESERVE, TokenFrame
from evitif.protocol.rate.statistics import LinkStatistics
from evitif.protocol.rate.token_bucket import TokenBucket
from evitif.protocol.sealing.keys import UNSEALED_WARNING, read_key_file, require_choice
from evitif.protocol.wire.answer import MAX_TOP_K
from evitif.protocol.wire.link_names import link_name
from evitif.repeated_log import RepeatedLog
from evitif.settings import BATCHING, DEFAULT_TOP_K, EdgeSettings
from evitif.transport import UdpLoop
from evitif.vocabulary import How, LinkState, RecoveryName

NAME_ALWAYS_FITS = SOURCE_FRAME_RESERVE // 4       # characters, of at most four bytes


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
    frames_expired: int = 0           # sent, no answer by the deadline
    frames_unsent: int = 0            # no session, or a stamp by which it cannot be joined
    frames_local: int = 0             # answered by the robot alone
    link: LinkStatistics | None = None
    sending: UplinkState = UplinkState()      # what the path allows, and is used of it
    quantisation: str = ''            # of the last frame, as the next two
    patch_copies: int = 0             # datagrams that each patch travels in; 0: no frame yet
    share_sent: float = NAN           # of the tokens
    stamps: str = ''                  # why the images' stamps cannot be relied on, where they have to be


@dataclass
class _Image:
    pixels: np.ndarray
    capture_stamp_ns: int
    source_frame: str
    context: object
    submitted: float
    stamped: bool = True              # so that other devices' shares of it can be found


@dataclass
class _Pending:
    """A frame that was seen and not answered."""

    image: _Image
    observation: Observation
    frame_id: int
    sent: np.ndarray | None = None    # bool [tokens]
    packetise: float = NAN


class EdgeRuntime:
    """The edge's pipeline with its thread and its socket. `log` takes a level (logging.INFO, …) and a sentence.

    `on_prediction(prediction)` and `on_event(event)` are called from the runtime's threads and should return soon.
    Building it reads the key and loads the model: raises KeyFileError, ModelError or ValueError, naming what is wrong.
    """

    def __init__(self, config: EdgeSettings, *, on_prediction: Callable[[Prediction], None],
                 on_event: Callable[[object], None] = lambda event: None,
                 log: Callable[[int, str], None] = lambda level, text: logging.getLogger(__name__).log(level, text)):
        require_choice(config.key_file, config.unsealed)
        key = read_key_file(config.key_file) if config.key_file else None
        self.config = config
        self.threads = ''                     # one sentence about how many PyTorch computes with, once started
        self._strategy = strategy = edge_strategy(config)
        self._on_prediction, self._on_event, self._log = on_prediction, on_event, log
        self._repeated = RepeatedLog(log)     # of what comes with each image
        self._connection = EdgeConnection(strategy.parameters, link_name(config.robot_name, strategy.parameters.device), EdgeConfig(
            answer_deadline_s=config.answer_deadline, link_timeout_s=config.link_timeout,
            max_datagram_bytes=config.max_datagram_bytes, min_packets=config.min_packets,
            prefix_copies=config.prefix_copies, patch_copies=config.patch_copies,
            rate_limit_bit_s=1e6 * config.rate_limit, congestion_control=config.congestion_control,
            top_k=min(config.top_k or 0, MAX_TOP_K)), key=key)
        self._loop = UdpLoop(self._connection, remote=(config.bridge_host, config.bridge_port), on_event=self._handle,
                             batching=BATCHING[config.batching], traffic_class=4 * config.dscp)
        self._last: Encoded | None = None     # sent
        self._stamps = StampCheck() if strategy.joins_by_stamp else None
        self._slots: LatestSlots = LatestSlots()
        self._pending: dict[int, _Pending] = {}
        self._lock = threading.Lock()         # guards what follows
        self._statistics = EdgeStatistics(device=str(strategy.placement.device))
        # One and a half frames deep, so that a camera's jitter does not halve the rate.
        self._rate = TokenBucket(config.max_rate, 1.5) if config.max_rate > 0 else None
        self._next_frame = 0
        self._worker: threading.Thread | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each class."""
        return self._strategy.labels

    @property
    def description(self) -> str:
        """One sentence about which model runs, and how much of it here."""
        return self._strategy.description

    @property
    def placement(self) -> Placement:
        """Where the model runs."""
        return self._strategy.placement

    def start(self) -> None:
        """Connect and begin. A bridge whose name does not resolve is asked for again and again; raises TransportError (an OSError) where
        the name can be no host's."""
        self._log(logging.INFO, self._strategy.description)
        if self.config.unsealed:
            self._log(logging.WARNING, UNSEALED_WARNING)
        self.threads = choose_threads(self.config.threads, self._strategy.warm_up)
        self._log(logging.INFO, self.threads)
        self._strategy.warm_up()
        self._set(state=LinkState.CONNECTING)
        self._loop.start()
        self._worker = threading.Thread(target=self._work, name='evitif-edge', daemon=True)
        self._worker.start()
        self._loop.call(self._connection.connect)

    def stop(self) -> None:
        """Say goodbye to the bridge and end the threads."""
        self._add(frames_unsent=sum(isinstance(item, _Image) for item in self._slots.close()))
        if self._worker is not None:
            self._worker.join()
            self._worker = None
        self._loop.stop()
        self._set(state=LinkState.DISCONNECTED)

    def submit(self, image: np.ndarray, capture_stamp_ns: int, source_frame: str = '', context: object = None) -> None:
        """Give an image uint8 [H, W, 3] RGB. Never blocks: it replaces an image that waits for the worker."""
        now = time.monotonic()
        stamped = self._check_stamp(capture_stamp_ns, now)
        with self._lock:
            self._statistics = _plus(self._statistics, frames_received=1)
            if self._rate is not None and not self._rate.take(now):
                self._statistics = _plus(self._statistics, frames_rate_limited=1)
                return
        if self._slots.put('image', _Image(image, capture_stamp_ns, source_frame, context, now, stamped)) is not None:
            self._add(frames_replaced=1)

    def _check_stamp(self, capture_stamp_ns: int, now: float) -> bool:
        """Whether the stamp can be what other devices' shares of the image are found by; said when that changes."""
        if self._stamps is None:
            return True
        objection = self._stamps.objection(capture_stamp_ns, now)
        with self._lock:
            before, self._statistics = self._statistics.stamps, dataclasses.replace(self._statistics, stamps=objection)
        if bool(objection) != bool(before):
            said = (logging.ERROR, objection) if objection else (logging.INFO, 'the images have stamps of their own again')
            self._repeated(*said, ('stamps', bool(objection)))
        return not objection

    def statistics(self) -> EdgeStatistics:
        """A snapshot of the counts and of the link."""
        link = self._loop.call(lambda now: self._connection.statistics)
        parameters, last = self._strategy.parameters, self._last
        chosen = {'quantisation': parameters.quantisation} if last is None else {
            'quantisation': last.quantisation, 'patch_copies': last.patch_copies,
            'share_sent': 1.0 if last.sent is None else len(last.sent) / parameters.tokens}
        with self._lock:
            own = self._statistics
            if own.state in (LinkState.CONNECTING, LinkState.LOST) and self._loop.remote_problem:
                chosen['reason'] = self._loop.remote_problem
            return dataclasses.replace(own, link=link, sending=self._connection.uplink, **chosen)

    # The worker's thread.

    def _work(self) -> None:
        while (item := self._slots.take()) is not None:
            try:
                if isinstance(item, _Pending):
                    self._answer_alone(item)
                else:
                    self._send(item)
            except Exception as error:  # an image or a device that fails must not end the stream
                self._fail(item, error)

    def _fail(self, item: _Image | _Pending, error: Exception) -> None:
        self._add(frames_failed=1)
        self._repeated(logging.ERROR, f'frame of stamp {_stamp(item)} failed: {error}', type(error))

    def _send(self, image: _Image) -> None:
        uplink = self._connection.uplink
        observation = self._strategy.observe(image.pixels, uplink)
        self._next_frame = (self._next_frame + 1) % 2**32
        pending = _Pending(image, observation, self._next_frame)
        if observation.probabilities is not None:
            self._publish_own(pending, observation.probabilities, How.LOCAL)
            return
        try:
            sent = image.stamped and self._encode_and_send(pending, uplink)
        except Exception as error:  # what was seen is enough for an answer of the robot's own
            self._fail(image, error)
            sent = False
        else:
            self._add(**{'frames_sent' if sent else 'frames_unsent': 1})
        if sent:
            return
        with self._lock:
            self._pending.pop(pending.frame_id, None)
        if self._strategy.answers_alone:
            self._answer_alone(pending)

    def _encode_and_send(self, pending: _Pending, uplink: UplinkState) -> bool:
        """False: there is no session."""
        image, observation = pending.image, pending.observation
        computed = time.monotonic()
        encoded = self._last = self._strategy.encode(observation, uplink)
        if encoded.remark:
            self._repeated(logging.INFO, encoded.remark, 'quantisation')
        frame = TokenFrame(pending.frame_id, image.capture_stamp_ns, self._name_on_the_wire(image.source_frame), encoded.rows,
                           encoded.quantisation, encoded.sent, encoded.patch_copies, encoded.min_packets)
        if not self._strategy.keeps_content:
            observation.content = None      # tokens of frames that wait for their answers would fill the memory
        pending.sent = np.zeros(self._strategy.parameters.tokens, bool)
        pending.sent[slice(None) if encoded.sent is None else encoded.sent] = True
        with self._lock:
            self._pending[pending.frame_id] = pending
        sent = self._loop.call(lambda now: self._connection.send_frame(frame, now))
        pending.packetise = time.monotonic() - computed
        return sent

    def _name_on_the_wire(self, name: str) -> str:
        """The source frame's name, cut to what a datagram has room for; on the robot it stays whole."""
        if len(name) <= NAME_ALWAYS_FITS:
            return name
        encoded, longest = name.encode(), self._connection.longest_name
        if len(encoded) <= longest:
            return name
        self._repeated(logging.WARNING, f"the images' frame_id has {len(encoded)} bytes, of which the first {longest} go to the bridge: "
                                        f'{name[:40]}…; expected at most {longest}', 'frame_id')
        return encoded[:longest].decode(errors='ignore')

    def _answer_alone(self, pending: _Pending) -> None:
        began = time.monotonic()
        probabilities = self._strategy.answer_alone(pending.observation)
        self._publish_own(pending, probabilities, How.FALLBACK, tail=time.monotonic() - began)

    def _publish_own(self, pending: _Pending, probabilities: np.ndarray, how: How, **stages: float) -> None:
        """An answer that the bridge has no part in."""
        class_ids, scores = top_classes(probabilities, self.config.top_k or DEFAULT_TOP_K)
        self._add(frames_local=1)
        self._publish(pending, time.monotonic(), class_ids, scores, strategy=self._strategy.name, how=how, recovery=RecoveryName.NONE,
                      stages=stages)

    # The loop's thread, or that of whoever called it.

    def _handle(self, event: object) -> None:
        if isinstance(event, AnswerArrived):
            self._answered(event)
        elif isinstance(event, FrameExpired):
            with self._lock:
                pending = self._pending.pop(event.frame_id, None)
            self._add(frames_expired=1)
            if pending is not None and self._strategy.answers_alone:
                self._slots.put('alone', pending)
        elif isinstance(event, Connected):
            self._set(state=LinkState.CONNECTED, reason='', session_id=event.session_id)
            self._log(logging.INFO, f'connected to {event.bridge} at {self.config.bridge_host}:{self.config.bridge_port}, '
                                    f'{"unsealed" if self.config.unsealed else "sealed"}')
        elif isinstance(event, Refused):
            self._set(state=LinkState.REFUSED, reason=event.reason)
            self._log(logging.ERROR, f'the bridge refused this robot: {event.reason}')
        elif isinstance(event, LinkLost):
            # A bridge that says goodbye, or has forgotten the session, ends it at once.
            reason = (f'nothing heard from the bridge for {event.silent_s:.1f} s'
                      if event.silent_s >= self.config.link_timeout else 'the bridge ended the session')
            self._set(state=LinkState.LOST, reason=reason)
            self._log(logging.WARNING, f'link to {self.config.bridge_host}:{self.config.bridge_port} lost: {reason}')
        self._on_event(event)

    def _answered(self, event: AnswerArrived) -> None:
        now = time.monotonic()
        answer = event.answer
        with self._lock:
            pending = self._pending.pop(answer.frame_id, None)
        if pending is None:
            return
        self._add(frames_answered=1)
        class_ids, scores = answer.class_ids, answer.scores
        try:
            class_ids, scores = self._strategy.refine(pending.observation, class_ids, scores)
        except Exception as error:  # the bridge's answer is one all the same
            self._repeated(logging.ERROR, f"what the bridge says of the frame of stamp {_stamp(pending)} is published alone: {error}",
                           type(error))
        k = self.config.top_k
        self._publish(
            pending, now, class_ids[:k], scores[:k], strategy=answer.strategy, how=How.OFF_BOARD, recovery=answer.recovery,
            packets_sent=event.sent.packets, packets_received=answer.packets_received, tokens_sent=event.sent.tokens,
            tokens_received=answer.tokens_received, uplink_bytes=event.sent.bytes, downlink_bytes=event.copies_bytes,
            packet_error_rate=answer.packet_error_rate, sent=pending.sent, received=answer.received,
            stages={'uplink': event.uplink_s, 'wait': answer.wait_s, 'recovery': answer.recovery_s,
                    'tail': answer.tail_s, 'downlink': event.downlink_s})

    def _publish(self, pending: _Pending, now: float, class_ids: tuple[int, ...], scores: tuple[float, ...], *,
                 stages: dict[str, float], **details) -> None:
        nothing_sent = {'packets_sent': 0, 'packets_received': 0, 'tokens_sent': 0, 'tokens_received': 0,
                        'uplink_bytes': 0, 'downlink_bytes': 0, 'packet_error_rate': NAN, 'sent': None, 'received': None}
        parameters, labels = self._strategy.parameters, self._strategy.labels
        image, observation = pending.image, pending.observation
        self._on_prediction(Prediction(
            frame_id=pending.frame_id, capture_stamp_ns=image.capture_stamp_ns, source_frame=image.source_frame,
            context=image.context, class_ids=tuple(index if index < len(labels) else -1 for index in class_ids), scores=scores,
            labels=tuple(labels[index] if index < len(labels) else 'other' for index in class_ids),
            prefix_tokens=parameters.prefix_tokens, grid=parameters.grid, crop=observation.crop, devices=self._strategy.devices,
            stages=StageTimes(preprocess=observation.preprocess, head=observation.head, packetise=pending.packetise,
                              total=now - image.submitted, **stages),
            **{**nothing_sent, **details}))

    def _add(self, **counts: int) -> None:
        with self._lock:
            self._statistics = _plus(self._statistics, **counts)

    def _set(self, **values: object) -> None:
        with self._lock:
            self._statistics = dataclasses.replace(self._statistics, **values)


def _plus(statistics, **counts: int):
    return dataclasses.replace(statistics, **{name: getattr(statistics, name) + n for name, n in counts.items()})


def _stamp(item: _Image | _Pending) -> str:
    stamp = (item.image if isinstance(item, _Pending) else item).capture_stamp_ns
    return f'{stamp / 1e9:.3f} s'
