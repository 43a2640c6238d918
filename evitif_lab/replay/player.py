"""Edge, link simulator and bridge in one process, over UDP on this machine, fed with the images of a recording at their own times."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from evitif.api import make_key, run_bridge, run_edge
from evitif.pipeline import EdgeRuntime, EdgeStatistics, Prediction
from evitif.pipeline.arriving_maps import PlaceAnswer
from evitif.recording import Recording
from evitif.transport.impairment import Impairment
from evitif.transport.link_simulator import LinkSimulator
from evitif.vocabulary import How, LinkState
from evitif_lab.commands.progress import Progress

LOCALHOST = '127.0.0.1'
CONNECT_S = 60.0            # for the handshake
STATISTICS_S = 1.0          # between two looks at the link
LAST_S = 0.5                # beyond the answers' deadlines


@dataclass
class Played:
    """What came of a recording, without its images: drawing and writing while it plays would take the time that answers need.

    :ivar predictions: by the number of their image; stamps may repeat
    :ivar maps: the same of what heads say of each place
    :ivar statistics: of the edge, with the number of the newest image that was answered then
    """

    predictions: dict[int, Prediction] = field(default_factory=dict)
    maps: dict[int, list[PlaceAnswer]] = field(default_factory=dict)
    statistics: list[tuple[int, EdgeStatistics]] = field(default_factory=list)
    last: EdgeStatistics = EdgeStatistics()


@dataclass(frozen=True, kw_only=True)
class Player:
    """
    :param links: the impairment of `uplink` and `downlink`
    :param speed: how fast it is played
    :param wait: whether each image waits until it is known what became of the one before, for a machine that is slower than the recording
    """

    links: dict[str, Impairment]
    start_s: float = 0.0
    duration_s: float = float('inf')
    speed: float = 1.0
    wait: bool = False
    seed: int = 0

    def play(self, recording: Recording, edge: dict[str, Any], bridge: dict[str, Any]) -> Played:
        """Play it to its end.

        Raises ValueError for a setting that is out of range, TimeoutError where edge and bridge do not come together, and what the
        model's loading raises.
        """
        lock, ended = threading.Lock(), threading.Event()
        played = Played()
        sure: list[int] = []            # images that the robot answered without sending anything

        def answered(prediction: Prediction) -> None:
            with lock:
                played.predictions[cast('int', prediction.context)] = dataclasses.replace(prediction, image=None, context=None)
                if prediction.how == How.LOCAL:
                    sure.append(prediction.frame_id)

        def mapped(answer: PlaceAnswer) -> None:
            blank = np.broadcast_to(np.uint8(0), answer.frame.image.shape)      # of the same size, and takes no memory
            with lock:
                played.maps.setdefault(cast('int', answer.frame.context), []).append(
                    dataclasses.replace(answer, frame=dataclasses.replace(answer.frame, image=blank)))
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            key = str(Path(folder) / 'replay.key')
            make_key(key)
            far = stack.enter_context(run_bridge(**bridge, key_file=key, port=0, bind_host=LOCALHOST))
            link = LinkSimulator((LOCALHOST, 0), far.local_address, seed=self.seed)
            link.start()
            stack.callback(link.stop)
            host, port = link.local_address[:2]
            near = stack.enter_context(run_edge(answered, mapped, **edge, key_file=key, bridge_host=host, bridge_port=port))
            self._connect(near.statistics)
            for direction, impairment in self.links.items():        # the handshake is over: the recording meets the bad link
                link.set_impairment(direction, impairment)
            watcher = threading.Thread(target=self._watch, args=(near.statistics, played, lock, ended), daemon=True)
            watcher.start()
            try:
                self._feed(recording, near, sure)
                played.last = near.statistics()
                return played
            finally:
                ended.set()
                watcher.join()

    def _connect(self, statistics: Callable[[], EdgeStatistics]) -> None:
        until = time.monotonic() + CONNECT_S
        while (found := statistics()).state != LinkState.CONNECTED:
            if found.state == LinkState.REFUSED or time.monotonic() > until:
                raise TimeoutError(f'edge and bridge did not come together: {found.reason or found.state}')
            time.sleep(0.01)

    def _feed(self, recording: Recording, edge: EdgeRuntime, sure: list[int]) -> None:
        began, first = time.monotonic(), None
        images = recording.images(self.start_s, self.duration_s)
        for image in Progress(images, desc=f'playing {recording.name}', unit='image'):
            first = image.received_ns if first is None else first
            due = began + (image.received_ns - first) / 1e9 / self.speed
            time.sleep(max(0.0, due - time.monotonic()))
            edge.submit(image.image, image.stamp_ns, image.frame_id, image.number)
            if self.wait:
                self._settle(edge, sure)
        self._settle(edge, sure)
        if edge.heads:
            time.sleep(LAST_S)          # maps follow the answers

    @staticmethod
    def _settle(edge: EdgeRuntime, sure: list[int]) -> None:
        """Wait until each image has had its fate; after twice the deadline the machine is too busy to tell."""
        until = time.monotonic() + 2 * edge.config.answer_deadline + LAST_S
        while time.monotonic() < until:
            found = edge.statistics()
            ends = (found.frames_replaced, found.frames_rate_limited, found.frames_failed, found.frames_answered, found.frames_expired,
                    found.frames_unsent)
            if sum(ends) + len(sure) >= found.frames_received:
                return
            time.sleep(0.001)

    @staticmethod
    def _watch(statistics: Callable[[], EdgeStatistics], played: Played, lock: threading.Lock, ended: threading.Event) -> None:
        while not ended.wait(STATISTICS_S):
            with lock:
                if played.predictions:
                    played.statistics.append((next(reversed(played.predictions)), statistics()))
