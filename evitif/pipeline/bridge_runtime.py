"""The off-board half at run time: datagrams in, predictions out, for any number of robots.

    UdpLoop ─► FrameReady ─► one slot a robot ─► worker thread: dequantise, recover, tail ─► answer ─► UdpLoop
                                                                                      └────► on_prediction()

The worker takes what waits in the slots of several robots at once, at most so many frames as are faster together.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from evitif.pipeline.configuration import BridgeRuntimeConfig
from evitif.pipeline.prediction import Prediction, StageTimes
from evitif.pipeline.slot import LatestSlots
from evitif.pipeline.split_stream import SplitStream
from evitif.pipeline.tail_pipeline import TailPipeline
from evitif.protocol.answer import Answer
from evitif.protocol.bridge import BridgeConfig, BridgeEndpoint
from evitif.protocol.events import FrameReady, RobotConnected, RobotLost, RobotRefused
from evitif.protocol.keys import UNSEALED_WARNING, KeyFileError, key_state, read_robot_keys, require_choice
from evitif.protocol.reassembly import ReceivedFrame
from evitif.protocol.statistics import LinkStatistics
from evitif.transport import UdpLoop

KEY_WATCH_S = 1.0       # between two looks at the key files


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
    counters: dict = field(default_factory=dict)                    # datagrams of no session, by kind
    links: dict[str, LinkStatistics] = field(default_factory=dict)  # by robot


class BridgeRuntime:
    """The bridge's pipeline with its thread and its socket; see EdgeRuntime for `log` and the callbacks.

    `on_prediction(robot, prediction)`. Raises KeyFileError, ModelError, ArtifactError or ValueError, naming what is
    wrong.
    """

    def __init__(self, config: BridgeRuntimeConfig, *, on_prediction: Callable[[str, Prediction], None],
                 on_event: Callable[[object], None] = lambda event: None,
                 log: Callable[[int, str], None] = lambda level, text: logging.getLogger(__name__).log(level, text)):
        require_choice(config.key_file, config.unsealed)
        self._key_state = key_state(config.key_file) if config.key_file else ()
        keys = read_robot_keys(config.key_file) if config.key_file else None
        self.config = config
        self._pipeline = TailPipeline(config)
        self._on_prediction, self._on_event, self._log = on_prediction, on_event, log
        self._endpoint = BridgeEndpoint(self._pipeline.stream.parameters, config.bridge_name, BridgeConfig(
            max_sessions=config.max_robots, session_timeout_s=config.session_timeout,
            frame_deadline_s=config.reassembly_deadline, answer_copies=config.answer_copies,
            max_datagram_bytes=config.max_datagram_bytes), keys=keys)
        self._loop = UdpLoop(self._endpoint, bind=(config.bind_host, config.port), on_event=self._handle)
        self._slots: LatestSlots[ReceivedFrame] = LatestSlots()
        self._lock = threading.Lock()  # guards the statistics
        self._statistics = BridgeStatistics(device=str(self._pipeline.stream.placement.device),
                                            recovery=self._pipeline.recovery_note)
        self._batch = 1
        self._worker: threading.Thread | None = None
        self._key_watch: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each class."""
        return self._pipeline.stream.labels

    @property
    def device(self) -> str:
        """One sentence about where the model runs."""
        return self._pipeline.stream.placement.note

    @property
    def stream(self) -> SplitStream:
        return self._pipeline.stream

    @property
    def local_address(self) -> tuple[str, int]:
        """Where the bridge listens, once started."""
        return self._loop.local_address

    def start(self) -> None:
        """Begin to serve. Raises TransportError (an OSError) when the address cannot be bound."""
        parameters = self._pipeline.stream.parameters
        self._log(logging.INFO, f'model {parameters.model}, tail after block {parameters.cut} of '
                                f'{self._pipeline.stream.split.depth} on {self.device}')
        self._log(logging.INFO, self._pipeline.recovery_note)
        if self.config.unsealed:
            self._log(logging.WARNING, UNSEALED_WARNING)
        self._batch = self._pipeline.warm_up(self.config.max_batch)
        self._log(logging.INFO, f'answering up to {self._batch} frames of several robots at once')
        self._loop.start()
        self._worker = threading.Thread(target=self._work, name='evitif-bridge', daemon=True)
        self._worker.start()
        if self.config.key_file:
            self._key_watch = threading.Thread(target=self._watch_keys, name='evitif-keys', daemon=True)
            self._key_watch.start()
        self._log(logging.INFO, f'listening on {self.local_address[0]}:{self.local_address[1]} (UDP)')

    def stop(self) -> None:
        """Say goodbye to the robots and end the threads."""
        self._slots.close()
        self._stopping.set()
        for thread in (self._worker, self._key_watch):
            if thread is not None:
                thread.join()
        self._worker = self._key_watch = None
        self._loop.stop()

    def statistics(self) -> BridgeStatistics:
        """A snapshot of the counts and of every robot's link."""
        def links(now: float) -> dict[str, LinkStatistics]:
            return {session.robot: self._endpoint.statistics_of(session_id)
                    for session_id, session in self._endpoint.sessions.items()}
        by_robot = self._loop.call(links)
        with self._lock:
            return dataclasses.replace(self._statistics, links=by_robot)

    # The worker's thread.

    def _work(self) -> None:
        while frames := self._slots.take_up_to(self._batch):
            for frame, answer in zip(frames, self._answers(frames), strict=True):
                if answer is not None:
                    try:
                        self._deliver(frame, answer)
                    except Exception as error:
                        self._fail(frame, error)

    def _answers(self, frames: list[ReceivedFrame]) -> list[Answer | None]:
        """One for each frame, None where there can be none: one robot's frame must not end the service of the others."""
        try:
            answers = self._pipeline.answer_batch(frames)
        except Exception as error:
            if len(frames) > 1:
                return [answer for frame in frames for answer in self._answers([frame])]
            self._fail(frames[0], error)
            return [None]
        self._add(batches=1)
        return answers

    def _deliver(self, frame: ReceivedFrame, answer: Answer) -> None:
        self._loop.call(lambda now: self._endpoint.send_answer(frame.session_id, answer, now))
        self._add(frames_answered=1)
        self._on_prediction(frame.robot, self._prediction(frame, answer))

    def _fail(self, frame: ReceivedFrame, error: Exception) -> None:
        self._add(frames_failed=1)
        self._log(logging.ERROR, f'frame {frame.frame_id} of robot {frame.robot} failed: {error}')

    def _prediction(self, frame: ReceivedFrame, answer: Answer) -> Prediction:
        parameters, labels = self._pipeline.stream.parameters, self.labels
        return Prediction(
            frame_id=frame.frame_id, capture_stamp_ns=frame.capture_stamp_ns, source_frame=frame.source_frame,
            context=None, class_ids=answer.class_ids, labels=tuple(labels[index] for index in answer.class_ids),
            scores=answer.scores, strategy=answer.strategy, recovery=answer.recovery,
            packets_sent=frame.packets_expected, packets_received=frame.packets_received,
            tokens_sent=parameters.tokens, tokens_received=answer.tokens_received, uplink_bytes=frame.bytes_received,
            downlink_bytes=0, packet_error_rate=frame.packet_error_rate, received=answer.received,
            prefix_tokens=parameters.prefix_tokens, grid=parameters.grid, crop=None,
            stages=StageTimes(wait=answer.wait_s, recovery=answer.recovery_s, tail=answer.tail_s,
                              total=time.monotonic() - frame.first_arrival))

    # The keys' thread: a new robot's key is heeded, and one that was taken away, without a restart.

    def _watch_keys(self) -> None:
        while not self._stopping.wait(KEY_WATCH_S):
            state = key_state(self.config.key_file)
            if state != self._key_state:
                self._key_state = state
                self._read_keys()

    def _read_keys(self) -> None:
        try:
            keys = read_robot_keys(self.config.key_file)
        except KeyFileError as error:
            self._log(logging.ERROR, f'the keys were changed, and the former ones are kept: {error}')
            return
        self._loop.call(lambda now: self._endpoint.set_keys(keys))
        self._log(logging.INFO, f'the keys in {self.config.key_file} were changed and read again')

    # The loop's thread, or that of whoever called it.

    def _handle(self, event: object) -> None:
        if isinstance(event, FrameReady):
            self._add(frames_ready=1)
            if self._slots.put(event.frame.session_id, event.frame) is not None:
                self._add(frames_replaced=1)
            return
        if isinstance(event, RobotConnected):
            self._log(logging.INFO, f'robot {event.robot} connected from {event.address[0]}:{event.address[1]}')
        elif isinstance(event, RobotRefused):
            self._log(logging.ERROR, f'robot {event.robot} at {event.address[0]}:{event.address[1]} refused: '
                                     f'{event.reason}')
        elif isinstance(event, RobotLost):
            self._slots.discard(event.session_id)
            self._log(logging.WARNING, f'robot {event.robot} is gone: {event.reason}')
        self._on_event(event)

    def _add(self, **counts: int) -> None:
        with self._lock:
            self._statistics = dataclasses.replace(
                self._statistics, **{name: getattr(self._statistics, name) + n for name, n in counts.items()})
