"""The off-board half at run time: datagrams in, predictions out, for any number of robots.

    UdpLoop ─► FrameReady ─► one slot a robot ─► worker thread: the strategy ─► answer ─► UdpLoop
                                                                          └────► on_prediction()

The worker answers frames of several robots at once, in the batch size measured fastest at start-up.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection

import numpy as np

from evitif.bounded import BoundedDict
from evitif.heads.results import Result
from evitif.pipeline.bridge_fleet import FleetLife
from evitif.pipeline.bridge_metrics import BridgeMetrics
from evitif.pipeline.bridge_statistics import BridgeStatistics
from evitif.pipeline.ends import bridge_end
from evitif.pipeline.heads_back import HeadsBack
from evitif.pipeline.prediction import Prediction, StageTimes
from evitif.pipeline.runtime import Log, Runtime, log_to_python
from evitif.pipeline.strategies import bridge_strategy
from evitif.pipeline.strategy import BridgeStrategy
from evitif.protocol.bridge.joining import HANDED_ON, JOINTS_IN_FLIGHT, JoiningEndpoint
from evitif.protocol.events import (
    AnswerSize,
    FrameLate,
    FrameReady,
    FramesJoined,
    HeadsLeftOut,
    RobotConnected,
    RobotLost,
    RobotMoved,
    RobotRefused,
    StampRefused,
)
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.rate.statistics import LinkStatistics
from evitif.protocol.sealing.keys import RobotKeys, key_state, read_robot_keys, require_choice, reread_robot_keys
from evitif.protocol.wire.answer import Answer, best
from evitif.protocol.wire.datagram import SMALL_PATH
from evitif.protocol.wire.link_names import group_of
from evitif.settings import BridgeSettings
from evitif.transport.addresses import format_address
from evitif.vocabulary import How

Item = tuple[ReceivedFrame, ...]      # frames that share a prediction: one, or those of several devices
Slot = Item | FrameLate
Said = tuple[Answer, dict[str, Result]]      # to a frame; what heads say is in the answer too, as far as it travels to the robot
KEY_WATCH_S = 1.0       # between two looks at the key files
_KEYS_SAID = 8          # files that cannot be used, each with a sentence of its own


class BridgeRuntime(Runtime[BridgeStrategy, Slot]):
    """As EdgeRuntime, off-board; it calls `on_prediction(robot, prediction)`.

    :param heads_read: the heads whose results of this robot somebody reads here, of `heads`; None: all
    """

    def __init__(self, config: BridgeSettings, *, on_prediction: Callable[[str, Prediction], None],
                 on_event: Callable[[object], None] = lambda event: None, log: Log = log_to_python,
                 heads_read: Callable[[str], Collection[str]] | None = None):
        require_choice(config.key_file, config.unsealed, config.silent_to_strangers)
        self._key_state = key_state(config.key_file) if config.key_file else ()
        keys = read_robot_keys(config.key_file) if config.key_file else None
        self._keys = keys or RobotKeys()
        strategy = bridge_strategy(config)
        self._endpoint = bridge_end(config, strategy, keys)
        super().__init__(config, strategy, self._endpoint, on_event=on_event, log=log, bind=(config.bind_host, config.port))
        self.config: BridgeSettings = config
        self._on_prediction, self._read_here = on_prediction, heads_read
        strategy.heads_read = self._heads_read
        self._heads_back = HeadsBack(self._endpoint, self._loop.call, log)
        self._fused: BoundedDict[tuple[str, int], Answer] = BoundedDict(HANDED_ON * config.max_robots)      # by robot and stamp
        self._fates: defaultdict[int, Counter[str]] = defaultdict(Counter)      # by session: frames replaced, failed; under the lock
        self._tokens: defaultdict[int, Counter[str]] = defaultdict(Counter)     # by session: what became of them; the same
        self._batch = 1
        self._metrics: BridgeMetrics | None = None
        self._key_watch: threading.Thread | None = None
        self._stopping = threading.Event()
        self._fleet = FleetLife(self._endpoint.place, config, self._loop, self._log)

    @property
    def local_address(self) -> tuple[str, int]:
        """Where the bridge listens, once started."""
        return self._loop.local_address

    def start(self) -> None:
        """Begin to serve. Raises TransportError (an OSError) when the address cannot be bound."""
        self._say_of_keys(self._keys)
        self._prepare(self._strategy.recovery_sentence)
        self._batch = self._strategy.warm_up(self.config.max_batch)
        self._log(logging.INFO, f'answering up to {self._batch} frames of several robots at once')
        self._run('evitif-bridge')
        if self.config.metrics_port:
            self._start_metrics()
        if self.config.key_file:
            self._key_watch = threading.Thread(target=self._watch_keys, args=(self.config.key_file,), name='evitif-keys', daemon=True)
            self._key_watch.start()
        self._fleet.start()
        self._log(logging.INFO, f'listening on {format_address(self.local_address)} (UDP)')

    def _start_metrics(self) -> None:
        stream = self._strategy.streams[0]
        info = {'bridge': self.config.bridge_name, 'strategy': self._strategy.name, 'model': stream.model, 'cut': str(stream.cut),
                'fingerprint': stream.fingerprint[:16], 'device': str(self.placement.device)}
        try:
            self._metrics = BridgeMetrics(self.config.bind_host, self.config.metrics_port, info, self.statistics)
        except Exception:
            self.stop()
            raise
        self._log(logging.INFO, f'metrics for Prometheus: http://{format_address((self.config.bind_host, self._metrics.port))}/metrics')

    def stop(self) -> None:
        """Say goodbye to the robots and end the threads."""
        self._slots.close()
        self._fleet.stop()
        self._stopping.set()
        self._join_worker()
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if self._key_watch is not None:
            self._key_watch.join()
            self._key_watch = None
        self._end()

    def drain(self) -> bool:
        """Send the robots of a fleet to its other bridges, and wait until they have left. False: some are still here."""
        return self._fleet.drain(lambda: len(self._endpoint.sessions))

    def statistics(self) -> BridgeStatistics:
        """A snapshot of the counts and of every robot's link."""
        endpoint = self._endpoint

        def snapshot(now: float) -> tuple[dict[str, tuple[int, LinkStatistics]], dict[str, int]]:
            return {session.robot: (session_id, endpoint.statistics_of(session_id))
                    for session_id, session in endpoint.sessions.items()}, dict(endpoint.statistics.dropped)
        by_robot, dropped = self._loop.call(snapshot)
        joined = dict(endpoint.joiner.counts) if isinstance(endpoint, JoiningEndpoint) else {}
        with self._lock:
            links = {robot: dataclasses.replace(link, frames={**link.frames, **self._fates.get(session_id, {})},
                                                tokens=dict(self._tokens.get(session_id, {})))
                     for robot, (session_id, link) in by_robot.items()}
            return BridgeStatistics(device=str(self.placement.device), recovery=self._strategy.recovery_sentence, dropped=dropped,
                                    joined=joined, links=links, heads_left_out=self._heads_back.left_out, wait_ms=self._fleet.wait_ms,
                                    **self._counts)

    # The worker's thread.

    def _work(self) -> None:
        while slots := self._slots.take_up_to(self._batch):
            items = [slot for slot in slots if not isinstance(slot, FrameLate)]
            self._deliver(self._answers(items) if items else [])
            for slot in slots:
                if isinstance(slot, FrameLate):
                    try:
                        self._answer_late(slot)
                    except Exception as error:
                        self._fail((slot.frame,), error)

    def _answers(self, items: list[Item]) -> list[tuple[Item, list[Said]]]:
        """Each item with the answers to its frames, unless it fails: one robot's frame must not end the service of the others."""
        frames, began = [frame for item in items for frame in item], time.monotonic()
        try:
            outcomes = self._strategy.answer_batch(frames)
        except Exception as error:
            if len(items) > 1:
                return [answered for item in items for answered in self._answers([item])]
            self._fail(items[0], error)
            return []
        done = time.monotonic()
        self._add(batches=1)
        self._fleet.worked(done - began, [began - frame.first_arrival for frame in frames])
        answered = iter([(frame if outcome.sent is None else dataclasses.replace(frame, units_sent=outcome.sent),
                          (outcome.answer(frame, self._strategy.name, began, done, self._heads_back.in_answer(frame, outcome.heads)),
                           outcome.heads))
                         for frame, outcome in zip(frames, outcomes, strict=True)])
        parts = [list(itertools.islice(answered, len(item))) for item in items]
        return [(tuple(frame for frame, _ in part), [said for _, said in part]) for part in parts]

    def _heads_read(self, frame: ReceivedFrame) -> set[str]:
        """The heads whose results of this frame somebody reads, on the robot or here."""
        here = [head.name for head in self._strategy.heads] if self._read_here is None else \
            self._read_here(group_of(frame.robot, frame.device))
        return {*here, *self._heads_back.read_on_robot(frame)}

    def _deliver(self, answered: list[tuple[Item, list[Said]]]) -> None:
        # All with the loop's lock taken once: the loop holds it while it takes a batch of datagrams, so each time costs a wait.
        try:
            errors = self._loop.call(lambda now: [self._send(item, answers, now) for item, answers in answered])
        except Exception as error:
            errors = [error] * len(answered)
        for (item, answers), error in zip(answered, errors, strict=True):
            try:
                if error is not None:
                    raise error
                self._tell(item, *answers[0])
                for frame, (_, heads) in zip(item, answers, strict=True):
                    self._heads_back.send_maps(frame, heads)
            except Exception as reason:
                self._fail(item, reason)

    def _send(self, item: Item, answers: list[Said], now: float) -> Exception | None:
        """Send the answers to an item; return what went wrong."""
        try:
            for frame, (answer, _) in zip(item, answers, strict=True):
                self._endpoint.send_answer(frame.session_id, answer, now)
        except Exception as error:
            return error

    def _tell(self, item: Item, answer: Answer, heads: dict[str, Result]) -> None:
        """Count what was sent, and publish it off-board."""
        self._add(frames_answered=len(item))
        if len(item) == 1:
            self._count_tokens(item[0], answer)
        robot = group_of(item[0].robot, item[0].device)     # without the device in the link's name
        if item[0].device:
            self._fused[robot, item[0].capture_stamp_ns] = answer
        prediction = self._prediction(item, answer, heads)
        if self._metrics is not None:
            self._metrics.answered(prediction)
        self._on_prediction(robot, prediction)

    def _count_tokens(self, frame: ReceivedFrame, answer: Answer) -> None:
        sent = frame.units_sent // self._strategy.streams[0].groups
        with self._lock:
            if frame.session_id in self._endpoint.sessions:
                self._tokens[frame.session_id].update(answer.fates(sent))

    def _answer_late(self, late: FrameLate) -> None:
        """Give a late device the answer of the others, in which it has no part."""
        frame = late.frame
        answer = self._fused.get((late.robot, frame.capture_stamp_ns))
        if answer is None:          # a newer image replaced the others' frames before they were answered
            self._add(frames_replaced=1)
            return
        copy = dataclasses.replace(
            answer, frame_id=frame.frame_id, packets_received=frame.packets_received, packets_expected=frame.packets_expected,
            bytes_received=frame.bytes_received, packet_error_rate=frame.packet_error_rate, first_arrival=frame.first_arrival,
            wait_s=0.0, hold_s=max(0.0, time.monotonic() - frame.first_arrival))
        self._loop.call(lambda now: self._endpoint.send_answer(frame.session_id, copy, now))
        self._add(frames_answered=1)

    def _fail(self, item: Item, error: Exception) -> None:
        self._add(frames_failed=len(item))
        self._count_fate('failed', item)
        self._repeated(logging.ERROR, f'frame {item[0].frame_id} of robot {item[0].robot} failed: {error}', type(error))

    def _prediction(self, item: Item, answer: Answer, heads: dict[str, Result]) -> Prediction:
        first, parameters, labels = item[0], self._strategy.streams[0], self.labels
        answer = best(answer, self.config.top_k)        # a robot may have asked for more
        sent = sum(frame.units_sent for frame in item) // parameters.groups
        # The bridge knows how many lost tokens were sent, but not which.
        known = answer.received if answer.tokens_received == sent else None
        return Prediction(
            frame_id=first.frame_id, capture_stamp_ns=first.capture_stamp_ns, source_frame=first.source_frame,
            class_ids=answer.class_ids, labels=tuple(labels[index] for index in answer.class_ids),
            scores=answer.scores, strategy=answer.strategy, how=How.OFF_BOARD, recovery=answer.recovery,
            packets_sent=sum(frame.packets_expected for frame in item), packets_received=sum(frame.packets_received for frame in item),
            tokens_sent=sent, tokens_received=answer.tokens_received, uplink_bytes=sum(frame.bytes_received for frame in item),
            packet_error_rate=_mean([frame.packet_error_rate for frame in item]),
            sent=np.ones(parameters.tokens, bool) if sent == parameters.tokens else known, received=answer.received,
            remembered=answer.remembered, memory_age=answer.memory_age_s,
            prefix_tokens=parameters.prefix_tokens, grid=parameters.grid, heads=heads, devices=self._strategy.devices,
            stages=StageTimes(wait=answer.wait_s, recovery=answer.recovery_s, tail=answer.tail_s,
                              total=time.monotonic() - min(frame.first_arrival for frame in item)))

    # The keys' thread: new keys, and those taken away, count without a restart.

    def _watch_keys(self, path: str) -> None:
        while not self._stopping.wait(KEY_WATCH_S):
            state = key_state(path)
            if state != self._key_state:
                self._key_state = state
                self._read_keys(path)

    def _read_keys(self, path: str) -> None:
        """A key that is gone or cannot be read no longer counts: a robot whose key was stolen stays out, whatever else is wrong."""
        keys = reread_robot_keys(path)
        self._loop.call(lambda now: self._endpoint.set_keys(keys))
        self._log(logging.INFO, f'the keys in {path} were changed and read again')
        self._say_of_keys(keys)

    def _say_of_keys(self, keys: RobotKeys) -> None:
        for sentence in keys.refused[:_KEYS_SAID]:
            self._log(logging.ERROR, sentence)
        if (more := len(keys.refused) - _KEYS_SAID) > 0:
            self._log(logging.ERROR, f'{more} more files in {self.config.key_file} cannot be used')
        for robots in keys.shared[:_KEYS_SAID]:
            self._log(logging.WARNING, f'the robots {", ".join(robots)} have one key, so each can pass for the others')

    # In the socket's thread, or that of a caller of `UdpLoop.call`.

    def _handle(self, event: object) -> None:
        if isinstance(event, FrameReady):
            self._put(event.frame.session_id, (event.frame,))
            return
        if isinstance(event, FramesJoined):
            # An incomplete joint frame comes at the same moment as the one after it: neither may take the other's place.
            self._put((event.robot, event.number % JOINTS_IN_FLIGHT), tuple(event.frames.values()))
            return
        if isinstance(event, FrameLate):
            self._put((event.robot, 'late', event.frame.session_id), event)
            return
        if isinstance(event, StampRefused):
            self._repeated(logging.ERROR, f'robot {event.robot}, {event.reason}; such frames are not answered',
                           ('stamps', event.robot, event.device))
        elif isinstance(event, RobotConnected):
            self._log(logging.INFO, f'robot {event.robot} connected from {format_address(event.address)}')
        elif isinstance(event, RobotMoved):
            self._repeated(logging.INFO, f'robot {event.robot} has moved to {format_address(event.address)}', ('moved', event.robot))
        elif isinstance(event, RobotRefused):
            self._repeated(logging.ERROR, f'robot {event.robot} at {format_address(event.address)} refused: {event.reason}',
                           ('refused', event.robot))
        elif isinstance(event, AnswerSize):
            self._log(*_said_of_size(event))
        elif isinstance(event, HeadsLeftOut):
            self._heads_back.left_out_of_answer(event)
        elif isinstance(event, RobotLost):
            self._slots.discard(event.session_id)
            self._strategy.forget(event.session_id)
            self._heads_back.forget(event.session_id)
            with self._lock:
                self._fates.pop(event.session_id, None)
                self._tokens.pop(event.session_id, None)
            self._log(logging.WARNING, f'robot {event.robot} is gone: {event.reason}')
        self._on_event(event)

    def _put(self, key: object, slot: Slot) -> None:
        self._add(frames_ready=len(_frames_of(slot)))
        if (replaced := self._slots.put(key, slot)) is not None:
            self._add(frames_replaced=len(_frames_of(replaced)))
            self._count_fate('replaced', _frames_of(replaced))

    def _count_fate(self, fate: str, item: Item) -> None:
        with self._lock:
            for frame in item:
                if frame.session_id in self._endpoint.sessions:
                    self._fates[frame.session_id][fate] += 1


def _said_of_size(event: AnswerSize) -> tuple[int, str]:
    """A level and a sentence for the log."""
    if event.before == 0:
        return logging.INFO, f'the answers to robot {event.robot} arrive again'
    swallowed = f'the path to robot {event.robot} swallows answers of more than {SMALL_PATH} bytes and says nothing'
    if event.size < event.before:
        return logging.WARNING, f'{swallowed}: they now have only as many classes as fit into that'
    return logging.ERROR, f'{swallowed}, and one class is too many for fewer: expected a path that takes them'


def _frames_of(slot: Slot) -> Item:
    return (slot.frame,) if isinstance(slot, FrameLate) else slot


def _mean(rates: list[float]) -> float:
    known = [rate for rate in rates if math.isfinite(rate)]
    return sum(known) / len(known) if known else math.nan
