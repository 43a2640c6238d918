"""The two processes of a soak: a robot that checks every answer that it gets, and a bridge. Both run until they are told to end."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import torch

from benchmarks.soak_ledger import ANSWERED, EXPIRED, LOCAL, SUBMITTED, Ledger
from evitif.model.build import save_model
from evitif.model.timm_import import timm
from evitif.pipeline import BridgeRuntime, EdgeRuntime, Prediction
from evitif.pipeline.cut_model import CutModel
from evitif.protocol.events import FrameExpired
from evitif.recovery.methods import METHODS
from evitif.settings import bridge_settings, edge_settings
from evitif.vocabulary import How, LinkState

IMAGES = 64
TOLERANCE = 1e-4          # of a score; two images' answers differ by far more (`require_distinct`)
SNAPSHOT_S = 0.1
PATIENCE_S = 5.0          # for which a new edge waits for its first session before it sends frames into the blue
_SIDE = 48                # pixels


@dataclass(frozen=True)
class Soak:
    """What both sides have to know. `folder` has the ledger, the model and the keys."""

    folder: str
    frames: int
    lives: int
    rate: float           # frames/s
    bridge_port: int
    robot_port: int       # of the link simulator
    seed: int

    def ledger(self) -> Ledger:
        """The ledger that all processes share."""
        return Ledger(self.folder, self.frames, self.lives)

    @property
    def model(self) -> str:
        """The model's folder."""
        return str(Path(self.folder) / 'model')

    @property
    def key_folder(self) -> str:
        """The folder of the robots' keys."""
        return str(Path(self.folder) / 'keys')


def write_model(folder: str) -> None:
    """A Vision Transformer of three blocks with random weights, which answers in a millisecond and tells images well apart."""
    generator = torch.random.get_rng_state()
    torch.manual_seed(0)
    arguments = {'embed_dim': 24, 'depth': 3, 'num_heads': 3, 'img_size': _SIDE}
    module = timm.create_model('vit_tiny_patch16_224', num_classes=10, **arguments)
    torch.random.set_rng_state(generator)
    with torch.no_grad():
        module.head.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
    save_model(folder, module, {'architecture': 'vit_tiny_patch16_224', 'class_names': [f'class {k}' for k in range(10)],
                                'model_kwargs': arguments, 'pretrained_cfg': {
                                    'input_size': [3, _SIDE, _SIDE], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic',
                                    'crop_pct': 1.0, 'crop_mode': 'center'}})


def images() -> list[np.ndarray]:
    """The pictures that the robot sends in turn."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (IMAGES, 6, 6, 3), np.uint8)
    return [np.kron(image, np.ones((8, 8, 1), np.uint8)) for image in coarse]


class Judge:
    """Recomputes answers: the same head, the same quantisation, the same tokens missing."""

    def __init__(self, stream: CutModel):
        self._stream = stream
        parameters = stream.parameters
        self._omission = METHODS['omission'](stream.blank_tokens, parameters.prefix_tokens, parameters.grid)
        self._exact, self._coded = [], []
        for image in images():
            tokens = stream.head(stream.preprocessor(image))
            self._exact.append(stream.tail(tokens))
            rows = stream.quantiser.quantise(tokens[0].float().numpy())
            self._coded.append(torch.from_numpy(stream.quantiser.dequantise(rows))[None])

    def require_distinct(self) -> None:
        """Raise RuntimeError where two images have answers so alike that an exchanged one would not be seen."""
        scores = np.stack(self._exact)
        difference = np.abs(scores[:, None] - scores).max(2) + np.eye(len(scores))
        if difference.min() < 10 * TOLERANCE:
            raise RuntimeError(f'two of the images have answers that differ by {difference.min():.4f} only')

    def is_right(self, number: int, prediction: Prediction) -> bool:
        """Whether this is the answer to frame `number` with the tokens that arrived."""
        index = number % IMAGES
        if prediction.how == How.FALLBACK:
            scores = self._exact[index]
        else:
            received = torch.from_numpy(prediction.received)[None]
            with torch.inference_mode():
                scores = self._stream.tail(self._omission.recover(self._coded[index], received, torch.zeros(1)))
        wanted = scores[list(prediction.class_ids)]
        return bool(np.abs(wanted - prediction.scores).max() < TOLERANCE and wanted[0] > scores.max() - TOLERANCE)


class _Ending:
    """Set by SIGTERM."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, signal.SIG_IGN)      # the parent ends its children

    def _ask(self, *_) -> None:
        self.asked = True


def _wait(go: Event, ready: Event, ending: _Ending, parent: int) -> None:
    ready.set()
    while not go.wait(1.0):
        if ending.asked or os.getppid() != parent:
            raise SystemExit


def bridge_life(soak: Soak, life: int, go: Event, ready: Event) -> None:
    """Get `ready`, wait for the event `go`, serve until SIGTERM, or until killed."""
    ending, parent = _Ending(), os.getppid()
    torch.set_num_threads(1)
    ledger = soak.ledger()
    mine = ledger.lives[life:life + 1]
    mine['bridge'] = 1
    bridge = BridgeRuntime(bridge_settings(
        model=soak.model, cut=1, quantisation='int8', recovery='omission', bind_host='127.0.0.1', port=soak.bridge_port,
        key_file=soak.key_folder, top_k=3), on_prediction=lambda *_: None, log=lambda *_: None)
    _wait(go, ready, ending, parent)
    bridge.start()
    mine['ready_at'] = time.monotonic()
    while not ending.asked and os.getppid() == parent:
        time.sleep(SNAPSHOT_S)
        statistics = bridge.statistics()
        mine['answered'], mine['ready'], mine['failed'] = (statistics.frames_answered, statistics.frames_ready,
                                                           statistics.frames_failed)
    bridge.stop()
    mine['ended'] = 1


def edge_life(soak: Soak, life: int, go: Event, ready: Event, local_fallback: bool) -> None:
    """Get `ready`, wait for the event `go`, submit frames from the first that nobody has begun, until SIGTERM, until killed, or until
    there is none left."""
    ending, parent = _Ending(), os.getppid()
    torch.set_num_threads(1)
    robot = _Robot(soak, life, local_fallback)
    _wait(go, ready, ending, parent)
    robot.start(ending)
    robot.submit(lambda: not ending.asked and os.getppid() == parent)
    robot.stop()


class _Robot:
    """An edge, what becomes of its frames, and a judge of its answers."""

    COUNTS = ('received', 'replaced', 'failed', 'unsent', 'sent', 'answered', 'expired', 'local')

    def __init__(self, soak: Soak, life: int, local_fallback: bool):
        self.soak, self.life, self.ledger = soak, life, soak.ledger()
        self.frames, self.mine = self.ledger.frames, self.ledger.lives[life:life + 1]
        self.numbers: dict[int, int] = {}          # by capture stamp
        self.answers: queue.SimpleQueue = queue.SimpleQueue()
        self._outcome = threading.Lock()           # a frame may expire and be answered locally in two threads at one moment
        config = edge_settings(
            model=soak.model, cut=1, quantisation='int8', robot_name='rover', bridge_host='127.0.0.1', bridge_port=soak.robot_port,
            key_file=str(Path(soak.key_folder) / 'rover.key'), local_fallback=local_fallback, top_k=3,
            answer_memory=0.0)      # each answer is checked against the tokens that arrived of its own frame
        self.edge = EdgeRuntime(config, on_prediction=self._on_prediction, on_event=self._on_event, log=lambda *_: None)
        self.judge, self.pictures = Judge(CutModel.load(config)), images()
        self.judge.require_distinct()

    def start(self, ending: _Ending) -> None:
        """Start, and wait for the bridge."""
        self.edge.start()
        self.mine['ready_at'] = time.monotonic()
        while self.edge.statistics().state != LinkState.CONNECTED and time.monotonic() < self.mine['ready_at'] + PATIENCE_S \
                and not ending.asked:
            time.sleep(0.01)

    def submit(self, goes_on: Callable[[], bool]) -> None:
        """Submit frames at their rate, as long as `goes_on` and some are left."""
        soak, random = self.soak, np.random.default_rng((self.soak.seed, self.life))
        began, stamp_offset_ns, next_snapshot = time.monotonic(), time.time_ns(), 0.0
        first = number = self.ledger.submitted
        while number < soak.frames and goes_on():
            due = began + (number - first) / soak.rate
            self._judge_answers()
            now = time.monotonic()
            if now >= next_snapshot:
                self._count()
                next_snapshot = now + SNAPSHOT_S
            if due > now:
                time.sleep(min(due - now, SNAPSHOT_S))
                continue
            if self._waits() and now < due + SNAPSHOT_S:      # a busy machine is not asked for more than it can
                time.sleep(0.002)
                continue
            if now > due + 1 / soak.rate:
                began += now - due            # what is late is not caught up
            if random.random() < 0.002:       # the clock that images are stamped with is set, by up to a day
                stamp_offset_ns += int(random.uniform(-86400, 86400) * 1e9)
            stamp = (time.monotonic_ns() + stamp_offset_ns) // soak.frames * soak.frames + number      # no two are the same
            self.numbers[stamp] = number
            if len(self.numbers) > 4096:
                del self.numbers[next(iter(self.numbers))]
            self.frames[number] = (SUBMITTED, 0, 0, self.life, now, 0.0)
            self.edge.submit(self.pictures[number % IMAGES], stamp, 'camera', context=number)
            number += 1
        if number == soak.frames:
            time.sleep(1.0)                   # the answer deadline, and the fallback's time

    def stop(self) -> None:
        """Stop, and write down the last counts."""
        self._count()
        self.edge.stop()
        counts = self.edge._counts     # noqa: SLF001 - the loop, which would be asked for the link's statistics, has ended
        for name in self.COUNTS:
            self.mine[name] = counts[f'frames_{name}']
        self._judge_answers()
        self.mine['ended'] = 1

    def _on_prediction(self, prediction: Prediction) -> None:
        frame = self.frames[prediction.context:prediction.context + 1]
        with self._outcome:
            frame['predictions'] += 1
            frame['outcome'] = LOCAL if prediction.how == How.FALLBACK else ANSWERED
            frame['ended_at'] = time.monotonic()
        self.answers.put(prediction)

    def _on_event(self, event: object) -> None:
        if isinstance(event, FrameExpired):
            number = self.numbers[event.capture_stamp_ns]
            frame = self.frames[number:number + 1]
            with self._outcome:
                if frame['outcome'] == SUBMITTED:
                    frame['outcome'], frame['ended_at'] = EXPIRED, time.monotonic()

    def _judge_answers(self) -> None:
        while not self.answers.empty():
            prediction = self.answers.get()
            if not self.judge.is_right(prediction.context, prediction):
                self.frames[prediction.context:prediction.context + 1]['wrong'] += 1

    def _waits(self) -> bool:
        """Whether the last image is still to be taken."""
        counts = self.edge.statistics()
        return counts.frames_received > counts.frames_replaced + counts.frames_failed + counts.frames_unsent + counts.frames_sent

    def _count(self) -> None:
        counts = self.edge.statistics()
        for name in self.COUNTS:
            self.mine[name] = getattr(counts, f'frames_{name}')
